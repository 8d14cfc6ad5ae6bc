//! The agent killed, restarted and stopped under load: the kernel side goes on by itself.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use xtask::lab::Family;
use xtask::lab::probe::{TIMEOUT, Transport};

use crate::fixture::{FRONTENDS, Node};
use crate::load::Load;

const LOAD: Duration = Duration::from_secs(30);

/// Rows as they are when nobody uses the Services.
fn without_traffic(mut rows: Value) -> Value {
    for row in rows.as_array_mut().into_iter().flatten() {
        for of_use in ["traffic", "open", "problems"] {
            row[of_use] = Value::Null;
        }
        for backend in row["backends"].as_array_mut().into_iter().flatten() {
            backend["traffic"] = Value::Null;
        }
    }
    rows
}

fn ids(node: &Node) -> [Value; 2] {
    ["services", "backends"].map(|what| without_traffic(node.agent.json(&[what]).unwrap()))
}

#[test]
fn a_crash_and_a_restart_under_load_fail_no_connection_and_keep_all_ids() {
    let mut node = Node::start();
    let before = ids(&node);
    let targets: Vec<SocketAddr> =
        FRONTENDS.iter().flat_map(|f| Family::ALL.map(|family| f.at(family, Transport::Tcp))).collect();
    let namespaces: Vec<_> = node.clients().iter().map(|client| client.ns.clone()).collect();
    let mut long_lived: Vec<_> = targets.iter().map(|dst| node.lab.client.connect(*dst, 0, TIMEOUT).unwrap()).collect();
    let load = Load::default();

    thread::scope(|scope| {
        let workers = load.start(scope, &namespaces, &targets);
        thread::sleep(LOAD / 4);
        node.agent.kill9().unwrap();
        thread::sleep(LOAD / 4);
        node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        node.agent.stop().unwrap();
        node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        load.stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        assert!(
            failures.is_empty(),
            "{} connections worked, these did not: {failures:#?}",
            load.done.load(Ordering::Relaxed)
        );
    });
    for connection in &mut long_lived {
        connection.ask().unwrap();
    }
    assert_eq!(ids(&node), before, "ids changed");
    eprintln!("{} connections", load.done.load(Ordering::Relaxed));
}
