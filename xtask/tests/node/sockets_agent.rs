//! Agents that crash and restart under their sockets, two of them on nested cgroups, and cgroups that are none.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use xtask::lab::probe::{TIMEOUT, Transport};
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests, sluice_binary};

use crate::fixture::{ALL, CLUSTER_IP, FRONTENDS, Node, addresses, all};
use crate::load::Load;
use crate::sockets::SocketNode;

const LOAD: Duration = Duration::from_secs(20);

#[test]
fn a_crash_and_restarts_under_load_fail_no_connection_of_a_socket() {
    let mut node = SocketNode::start();
    let targets: Vec<SocketAddr> =
        FRONTENDS.iter().flat_map(|f| Family::ALL.map(|family| f.at(family, Transport::Tcp))).collect();
    let namespaces = node.clients();
    let mut long_lived: Vec<_> = targets.iter().map(|dst| node.host().connect(*dst, 0, TIMEOUT).unwrap()).collect();
    let load = Load::default();

    thread::scope(|scope| {
        let workers = load.start(scope, &namespaces, &targets);
        thread::sleep(LOAD / 4);
        node.node.agent.kill9().unwrap();
        thread::sleep(LOAD / 4);
        node.node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        node.node.agent.stop().unwrap();
        node.node.agent.restart().unwrap();
        thread::sleep(LOAD / 4);
        load.stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        let done = load.done.load(Ordering::Relaxed);
        eprintln!("{done} connections");
        assert!(failures.is_empty(), "{done} connections worked, these did not: {failures:#?}");
    });
    for connection in &mut long_lived {
        connection.ask().unwrap();
    }
}

/// A node with these arguments, its clients outside of any cgroup that is served.
fn plain(args: &[&str]) -> Node {
    Node::with(LabOptions::default(), &all(), args)
}

fn all_is_served_by_packets(node: &Node) {
    for client in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            client.ns.ask(transport, dst).unwrap_or_else(|err| panic!("{} -> {dst}: {err}", client.name));
        }
    }
}

#[test]
fn a_cgroup_that_is_none_is_said_and_the_packet_path_carries_on() {
    for (path, why) in [("/nonexistent/cgroup", "does not exist"), ("/tmp", "is not of cgroup2")] {
        let node = plain(&["--cgroup", path]);
        all_is_served_by_packets(&node);
        let status = node.agent.json(&["status"]).unwrap();
        let sockets = &status["report"]["sockets"];
        assert_eq!(sockets["hooks"].as_array().map(Vec::len), Some(0), "{why}: {sockets}");
        assert!(sockets["errors"].to_string().contains(path), "{why}: {sockets}");
        assert!(node.agent.log().contains(path), "{why}: nothing about it in the log");
    }
}

#[test]
fn status_names_mode_cgroup_and_hooks() {
    let node = SocketNode::start();
    let status = node.node.agent.json(&["status"]).unwrap();
    let sockets = &status["report"]["sockets"];
    assert_eq!((&sockets["mode"], &sockets["errors"]), (&"all".into(), &serde_json::json!([])), "{sockets}");
    assert_eq!(sockets["cgroup"], node.cgroup.path().to_string_lossy().as_ref());
    let hooks = sockets["hooks"].to_string();
    for hook in ["connect", "sendmsg", "recvmsg", "getpeername"] {
        for family in [4, 6] {
            assert!(hooks.contains(&format!("\"{hook}{family}\"")), "{hook}{family}: {hooks}");
        }
    }
}

#[test]
fn two_agents_share_a_cgroup_and_each_goes_on_without_the_other() {
    let mut first = SocketNode::start();
    let lab = Lab::start(LabOptions::default()).unwrap();
    let manifests = Manifests::of(&lab);
    manifests.service(&all()).unwrap();
    manifests.ready(ALL, lab.pods()).unwrap();
    let path = first.cgroup.path().display().to_string();
    let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir()).arg("--cgroup").arg(&path);
    let second = Agent::start(&lab, options.arg("--socket-lb").arg("host-only")).unwrap();
    let dst = CLUSTER_IP.at(Family::V4, Transport::Tcp);
    // Each agent's own host is served by it; what the other did not translate is left to it.
    let other_host = lab.node1.in_cgroup(&first.cgroup);
    other_host.ask(Transport::Tcp, dst).unwrap();
    first.host().ask(Transport::Tcp, dst).unwrap();
    drop(second);
    drop(lab);
    first.node.agent.kill9().unwrap();
    first.host().ask(Transport::Tcp, dst).unwrap();
    first.node.agent.restart().unwrap();
    first.host().ask(Transport::Tcp, dst).unwrap();
}

#[test]
fn a_host_process_may_not_bind_a_protected_node_port() {
    let taken =
        |node: &SocketNode, port| node.host().run(|| Ok(std::net::TcpListener::bind(("0.0.0.0", port)))).unwrap();
    let node = SocketNode::with(&all(), &["--protect-node-ports"]);
    let error = taken(&node, 30080).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    taken(&node, 30081).unwrap();
    drop(node);
    taken(&SocketNode::start(), 30080).unwrap();
}
