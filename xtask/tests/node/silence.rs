//! A Pod that is cut off, its EndpointSlice unchanged: what that costs sockets and packets.

use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::Family;
use xtask::lab::probe::Transport;

use crate::fixture::{CLUSTER_IP, FRONTENDS};
use crate::sockets::SocketNode;

/// The Pod that falls silent.
const CUT_OFF: &str = "br2";
/// One SYN sent again, on a slow machine.
const ONE_RETRY: Duration = Duration::from_millis(1_700);

/// Whether one of its backends is shown as silent.
fn is_silent(node: &SocketNode, family: Family) -> bool {
    let addr = node.node.lab.pod(CUT_OFF).unwrap().addr.of(family).to_string();
    let rows = node.node.agent.json(&["backends"]).unwrap();
    let of_pod = |row: &&serde_json::Value| row["address"].as_str().is_some_and(|text| text.contains(&addr));
    rows.as_array().unwrap().iter().filter(of_pod).any(|row| row["silent"] == true)
}

#[test]
fn a_pod_that_is_cut_off_costs_sockets_that_begin_in_its_first_second_and_packets_one_retry() {
    let node = SocketNode::start();
    let hooks = node.node.agent.json(&["status"]).unwrap()["report"]["sockets"]["hooks"].clone();
    assert!(hooks.as_array().unwrap().iter().any(|hook| hook == "socket_ops"), "{hooks}");
    let device = node.node.lab.pod(CUT_OFF).unwrap().host_device.clone();
    let (host, outside) = (node.host(), &node.node.lab.client);
    let of_sockets = CLUSTER_IP.at(Family::V4, Transport::Tcp);
    let of_packets = FRONTENDS[1].at(Family::V6, Transport::Tcp);
    node.node.lab.node1.ip(&format!("link set {device} down")).unwrap();

    // Packets: the client's second SYN goes to another Pod, and then first ones do, too.
    let mut retried = 0;
    for _ in 0..60 {
        let since = Instant::now();
        outside.ask(Transport::Tcp, of_packets).unwrap();
        let took = since.elapsed();
        assert!(took < ONE_RETRY, "{took:?}");
        retried += usize::from(took > Duration::from_millis(900));
    }
    assert!(is_silent(&node, Family::V6) && (1..=4).contains(&retried), "{retried}");

    // Sockets: one hangs, and tells the others by its second SYN.
    assert!((0..200).any(|_| host.ask(Transport::Tcp, of_sockets).is_err()));
    assert!(is_silent(&node, Family::V4));
    for _ in 0..60 {
        host.ask(Transport::Tcp, of_sockets).unwrap();
    }

    node.node.lab.node1.ip(&format!("link set {device} up")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let back = |ns: &xtask::lab::Netns, dst| {
        while !ns.ask(Transport::Tcp, dst).is_ok_and(|answer| answer.pod == CUT_OFF) {
            assert!(Instant::now() < deadline, "{dst}: not used again");
            thread::sleep(Duration::from_millis(10));
        }
    };
    back(outside, of_packets);
    back(&host, of_sockets);
    assert!(!is_silent(&node, Family::V4) && !is_silent(&node, Family::V6));
}
