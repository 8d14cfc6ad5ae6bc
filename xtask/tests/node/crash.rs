//! The agent killed, restarted and stopped under load: the kernel side goes on by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::Family;
use xtask::lab::probe::{Connection, TIMEOUT, Transport};

use crate::fixture::{FRONTENDS, Node};

/// Together a thousand connections per second.
const WORKERS: u32 = 4;
const PER_WORKER: u32 = 250;
const LOAD: Duration = Duration::from_secs(30);

/// Rows as they are when nobody uses the Services.
fn without_traffic(mut rows: Value) -> Value {
    for row in rows.as_array_mut().into_iter().flatten() {
        row["traffic"] = Value::Null;
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
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));

    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let ns = &namespaces[worker as usize % namespaces.len()];
                let (stop, done, targets) = (&stop, &done, &targets);
                scope.spawn(move || {
                    ns.enter().unwrap();
                    let started = Instant::now();
                    let mut failures = Vec::new();
                    for (round, dst) in (0..).zip(targets.iter().cycle()) {
                        if stop.load(Ordering::Relaxed) || failures.len() > 10 {
                            break;
                        }
                        match Connection::open(*dst, 0, TIMEOUT).and_then(|mut connection| connection.ask()) {
                            Ok(_) => _ = done.fetch_add(1, Ordering::Relaxed),
                            Err(failure) => failures.push(format!("{dst}: {failure}")),
                        }
                        let next = started + Duration::from_secs(1) * round / PER_WORKER;
                        thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                    failures
                })
            })
            .collect();
        thread::sleep(LOAD / 4);
        node.agent.kill9().unwrap();
        thread::sleep(LOAD / 4);
        node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        node.agent.stop().unwrap();
        node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        assert!(
            failures.is_empty(),
            "{} connections worked, these did not: {failures:#?}",
            done.load(Ordering::Relaxed)
        );
    });
    for connection in &mut long_lived {
        connection.ask().unwrap();
    }
    assert_eq!(ids(&node), before, "ids changed");
    eprintln!("{} connections", done.load(Ordering::Relaxed));
}
