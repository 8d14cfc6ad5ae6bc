//! Connections that the node, or a Pod behind its source NAT, opens from a port that is also a Service's on the node's
//! address: the answer belongs to who asked.

use std::net::SocketAddr;

use xtask::lab::probe::{TIMEOUT, Transport};
use xtask::lab::{Family, Netns, plan};

use crate::fixture::{FRONTENDS, Node, each_way};

/// Asks from a given port until the answer is there; who is asked has to see the node's address and that port.
#[track_caller]
fn assert_keeps_its_answer(from: &Netns, source: SocketAddr, dst: SocketAddr, transport: Transport) {
    let answer = from.run(|| Ok(transport.ask_from(source, dst, TIMEOUT))).unwrap();
    let answer = answer.unwrap_or_else(|failure| panic!("{} {source} -> {dst}: {failure}", transport.name()));
    let family = if dst.is_ipv4() { Family::V4 } else { Family::V6 };
    let seen = SocketAddr::new(plan::NODE1_ADDR.of(family), source.port());
    assert_eq!(answer.client, seen, "{} {source} -> {dst}", transport.name());
}

const fn node_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => 30080,
        Transport::Udp => 30053,
    }
}

fn own_connections_keep_their_answers(node: &Node) {
    let remote = node.lab.pod("remote1").unwrap().addr;
    for (family, transport) in each_way() {
        let source = SocketAddr::new(plan::NODE1_ADDR.of(family), node_port(transport));
        let dst = SocketAddr::new(remote.of(family), transport.pod_port());
        assert_keeps_its_answer(&node.lab.node1, source, dst, transport);
    }
    // What a CNI's masquerading amounts to. The port stays as it is while nobody else has it.
    for (family, net) in [("ip", plan::BRIDGED_PODS[0]), ("ip6", plan::BRIDGED_PODS[1])] {
        let rules = format!(
            "add table {family} cni; add chain {family} cni post {{ type nat hook postrouting priority 100; }}; \
             add rule {family} cni post {family} saddr {net} oifname {} masquerade",
            plan::UPLINK
        );
        node.lab.node1.command("nft", &[&rules]).unwrap();
    }
    let pod = node.lab.pod("br1").unwrap();
    for (family, transport) in each_way() {
        let source = SocketAddr::new(pod.addr.of(family), node_port(transport));
        let dst = SocketAddr::new(plan::NODE2_ADDR.of(family), transport.pod_port());
        assert_keeps_its_answer(&pod.ns, source, dst, transport);
    }
    let noted = node.agent.json(&["status"]).unwrap()["counters"]["own_connection"].as_u64().unwrap();
    assert!(noted >= 4, "{noted} connections were noted");
    for (family, transport) in each_way() {
        let answer = node.lab.client.ask(transport, FRONTENDS[1].at(family, transport)).unwrap();
        assert!(node.lab.pods().iter().any(|pod| pod.name == answer.pod), "the NodePort is served: {answer:?}");
    }
}

#[test]
fn answers_to_connections_from_a_node_port_belong_to_who_opened_them() {
    let mut node = Node::start();
    node.lab.serve_on_nodes().unwrap();
    own_connections_keep_their_answers(&node);
}

#[test]
fn answers_to_connections_from_a_node_port_belong_to_who_opened_them_with_xdp() {
    let mut node = Node::start_with_xdp();
    node.lab.serve_on_nodes().unwrap();
    own_connections_keep_their_answers(&node);
}
