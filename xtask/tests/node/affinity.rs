//! Session affinity: who stays where, and for how long.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::expect::Client;
use xtask::lab::probe::{Connection, TIMEOUT, Transport, UdpClient};
use xtask::lab::{LabOptions, ServiceSpec};

use crate::fixture::{CLUSTER_IP, Node, addresses, all};

fn start(timeout_secs: u32) -> Node {
    let service = ServiceSpec { affinity_secs: Some(timeout_secs), ..all() };
    Node::with(LabOptions::default(), &service, &[])
}

/// Twelve entries of affinity: three clients, two transports, two families.
fn entries(node: &Node) -> Vec<(Client<'_>, Transport, SocketAddr)> {
    let each = |client| addresses(&CLUSTER_IP).map(move |(transport, dst)| (client, transport, dst));
    node.clients().into_iter().flat_map(each).collect()
}

/// The Pod that each entry leads to now, by a new connection.
fn choices(node: &Node) -> Vec<String> {
    let ask =
        |(client, transport, dst): &(Client<'_>, Transport, SocketAddr)| client.ns.ask(*transport, *dst).unwrap().pod;
    entries(node).iter().map(ask).collect()
}

fn assert_one_pod_each(node: &Node) {
    for (client, transport, dst) in entries(node) {
        let answers = client.ns.ask_many(transport, dst, 1000);
        let answers = answers.unwrap_or_else(|failure| {
            let counters = node.agent.json(&["status"]).unwrap()["counters"].clone();
            panic!("{} -> {dst}/{}: {failure}; {counters}", client.name, transport.name())
        });
        let pods: BTreeSet<_> = answers.into_iter().map(|answer| answer.pod).collect();
        assert_eq!(pods.len(), 1, "{} -> {dst}/{}: {pods:?}", client.name, transport.name());
    }
}

#[test]
fn a_thousand_connections_of_a_client_meet_one_pod() {
    assert_one_pod_each(&start(600));
}

#[test]
fn a_thousand_connections_of_a_client_meet_one_pod_through_xdp() {
    let service = ServiceSpec { affinity_secs: Some(600), ..all() };
    let options = LabOptions { tx_offload: false, ..LabOptions::default() };
    assert_one_pod_each(&Node::with(options, &service, &["--xdp", "native"]));
}

#[test]
fn after_the_timeout_the_choice_is_made_afresh() {
    let node = start(1);
    let before = choices(&node);
    thread::sleep(Duration::from_millis(1300));
    // That all twelve meet the same of five Pods again happens once in two hundred million runs.
    assert_ne!(choices(&node), before);
}

#[test]
fn each_new_connection_starts_the_clock_anew() {
    let node = start(3);
    let before = choices(&node);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(800));
        assert_eq!(choices(&node), before);
    }
}

#[test]
fn packets_of_an_old_connection_do_not_start_the_clock_anew() {
    enum Open {
        Tcp(Connection),
        Udp(UdpClient),
    }
    let node = start(1);
    let entries = entries(&node);
    let mut open: Vec<_> = entries
        .iter()
        .map(|(client, transport, dst)| match transport {
            Transport::Tcp => Open::Tcp(client.ns.connect(*dst, 0, TIMEOUT).unwrap()),
            Transport::Udp => Open::Udp(client.ns.udp(*dst, 0, TIMEOUT).unwrap()),
        })
        .collect();
    let mut ask = || -> Vec<String> {
        let each = open.iter_mut().map(|open| match open {
            Open::Tcp(connection) => connection.ask().unwrap().pod,
            Open::Udp(client) => client.ask().unwrap().pod,
        });
        each.collect()
    };
    let before = ask();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert_eq!(ask(), before, "an open connection changed its Pod");
        thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(choices(&node), before);
}
