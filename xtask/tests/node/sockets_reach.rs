//! Sockets of the host and of Pods: every frontend reached, the VIP shown, refusals at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use xtask::lab::Netns;
use xtask::lab::probe::{Cause, TIMEOUT, Transport};

use crate::fixture::{ALL, CLUSTER_IP, FRONTENDS, addresses, all};
use crate::sockets::{SocketNode, of_host, reachable};

/// Enough that none of five Pods is left out by chance (once in a million runs).
const CONNECTIONS: usize = 80;
const AT_ONCE: Duration = Duration::from_millis(100);

fn pods_behind(ns: &Netns, transport: Transport, dst: SocketAddr, count: usize) -> BTreeSet<String> {
    let answers = ns.ask_many(transport, dst, count);
    let answers = answers.unwrap_or_else(|err| panic!("{} -> {dst}/{}: {err}", ns.name(), transport.name()));
    answers.into_iter().map(|answer| answer.pod).collect()
}

/// What `getpeername` says about a new socket.
fn peer(ns: &Netns, transport: Transport, dst: SocketAddr) -> SocketAddr {
    let peer = ns.run(|| match transport {
        Transport::Tcp => Ok(TcpStream::connect_timeout(&dst, TIMEOUT)?.peer_addr()?),
        Transport::Udp => {
            let socket = UdpSocket::bind(if dst.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(dst)?;
            Ok(socket.peer_addr()?)
        }
    });
    peer.unwrap_or_else(|err| panic!("{} -> {dst}/{}: {err:#}", ns.name(), transport.name()))
}

fn assert_refused(ns: &Netns, transport: Transport, dst: SocketAddr) {
    let way = format!("{} -> {dst}/{}", ns.name(), transport.name());
    match ns.ask(transport, dst) {
        Ok(answer) => panic!("{way}: {} answered", answer.pod),
        Err(failure) => {
            assert_eq!(failure.cause, Cause::Refused, "{way}: {failure}");
            assert!(failure.took <= AT_ONCE, "{way}: {failure}");
        }
    }
}

#[test]
fn every_frontend_leads_the_sockets_of_host_and_pods_to_every_pod() {
    let node = SocketNode::start();
    let all: BTreeSet<_> = reachable(&node.node.lab).map(|pod| pod.name.clone()).collect();
    for ns in node.clients() {
        for (transport, dst) in FRONTENDS.iter().flat_map(addresses) {
            assert_eq!(pods_behind(&ns, transport, dst, CONNECTIONS), all, "{} -> {dst}", ns.name());
            assert_eq!(peer(&ns, transport, dst), dst, "{}: the peer's name", ns.name());
        }
    }
}

#[test]
fn a_pod_without_any_device_on_the_host_reaches_every_frontend() {
    let node = SocketNode::start();
    let ns = node.pod("mv1");
    for backend in ["remote1", "mv1"] {
        let pod = node.node.lab.pod(backend).unwrap();
        node.node.change(|manifests| manifests.ready(ALL, [pod]).unwrap());
        for (transport, dst) in FRONTENDS.iter().flat_map(addresses) {
            assert_eq!(pods_behind(&ns, transport, dst, 3), BTreeSet::from([backend.to_owned()]), "{dst}");
            assert_eq!(peer(&ns, transport, dst), dst);
        }
    }
}

#[test]
fn a_pod_reaches_itself_and_is_its_own_client() {
    let node = SocketNode::start();
    for name in ["br1", "rt1"] {
        let pod = node.node.lab.pod(name).unwrap();
        node.node.change(|manifests| manifests.ready(ALL, [pod]).unwrap());
        for (transport, dst) in addresses(&CLUSTER_IP) {
            let answer = node.pod(name).ask(transport, dst).unwrap_or_else(|err| panic!("{name} -> {dst}: {err}"));
            assert_eq!(answer.pod, name);
            assert!(pod.addr.contains(answer.client.ip()), "{name} saw {}", answer.client);
        }
    }
}

#[test]
fn node_ports_are_served_on_the_hosts_loopback_and_not_on_a_pods() {
    let node = SocketNode::start();
    let all: BTreeSet<_> = reachable(&node.node.lab).map(|pod| pod.name.clone()).collect();
    let loopback = of_host().pop().unwrap();
    for (transport, dst) in addresses(&loopback) {
        assert_eq!(pods_behind(&node.host(), transport, dst, CONNECTIONS), all, "{dst}/{}", transport.name());
        assert_eq!(peer(&node.host(), transport, dst), dst);
        for pod in ["br1", "rt1", "mv1"] {
            assert_refused(&node.pod(pod), transport, dst);
        }
    }
}

#[test]
fn sockets_are_refused_at_once_without_endpoints_and_at_unknown_ports() {
    let node = SocketNode::start();
    for ns in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            assert_refused(&ns, transport, SocketAddr::new(dst.ip(), 4444));
        }
    }
    node.node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
    for ns in node.clients() {
        for (transport, dst) in FRONTENDS.iter().flat_map(addresses) {
            assert_refused(&ns, transport, dst);
        }
    }
    for (transport, dst) in addresses(&of_host().pop().unwrap()) {
        assert_refused(&node.host(), transport, dst);
    }
}

#[test]
fn internal_policy_local_without_local_endpoints_is_silence() {
    let node = SocketNode::with(&xtask::lab::ServiceSpec { internal_local: true, ..all() }, &[]);
    let remote = node.node.lab.pod("remote1").unwrap();
    node.node.change(|manifests| manifests.ready(ALL, [remote]).unwrap());
    for ns in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            let asked = ns.run(|| Ok(transport.ask_once(dst, 0, Duration::from_millis(300)))).unwrap();
            let failure = asked.unwrap_err();
            assert_eq!(failure.cause, Cause::TimedOut, "{} -> {dst}/{}: {failure}", ns.name(), transport.name());
        }
    }
}

#[test]
fn affinity_holds_a_namespace_to_one_pod() {
    let node = SocketNode::with(&xtask::lab::ServiceSpec { affinity_secs: Some(600), ..all() }, &[]);
    for ns in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            assert_eq!(pods_behind(&ns, transport, dst, 50).len(), 1, "{} -> {dst}", ns.name());
        }
    }
}

#[test]
fn a_socket_for_both_families_reaches_ipv4_frontends() {
    let node = SocketNode::start();
    for ns in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            let IpAddr::V4(v4) = dst.ip() else { continue };
            let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), dst.port());
            pods_behind(&ns, transport, mapped, 5);
            assert_eq!(peer(&ns, transport, mapped), mapped, "{}", ns.name());
        }
        let mapped = SocketAddr::new(Ipv4Addr::new(10, 96, 0, 10).to_ipv6_mapped().into(), 4444);
        assert_refused(&ns, Transport::Tcp, mapped);
    }
}

/// Who is translated at the socket shows by the peer's flow in the list.
fn assert_via_socket(node: &SocketNode, ns: &Netns, expected: bool) {
    let dst = CLUSTER_IP.at(xtask::lab::Family::V4, Transport::Tcp);
    let mut connection = ns.connect(dst, 0, TIMEOUT).unwrap_or_else(|err| panic!("{} -> {dst}: {err}", ns.name()));
    connection.ask().unwrap();
    assert_eq!(node.socket_flows(dst), usize::from(expected), "{}", ns.name());
}

#[test]
fn host_only_leaves_the_sockets_of_pods_to_the_packet_path() {
    let node = SocketNode::with(&all(), &["--socket-lb", "host-only"]);
    assert_via_socket(&node, &node.host(), true);
    assert_via_socket(&node, &node.pod("br1"), false);
    assert_via_socket(&node, &node.pod("rt1"), false);
}

#[test]
fn off_leaves_all_sockets_alone() {
    let node = SocketNode::with(&all(), &["--socket-lb", "off"]);
    assert_via_socket(&node, &node.pod("br1"), false);
    let dst = CLUSTER_IP.at(xtask::lab::Family::V4, Transport::Tcp);
    node.host().ask(Transport::Tcp, dst).unwrap_err();
}

#[test]
fn a_namespace_that_opted_out_is_left_to_the_packet_path() {
    let node = SocketNode::with(&all(), &["--socket-opt-out", "/run/sluice-lab/*/ns/br1"]);
    assert_via_socket(&node, &node.pod("br1"), false);
    assert_via_socket(&node, &node.pod("rt1"), true);
}

#[test]
fn socket_flows_are_listed_until_the_socket_closes() {
    let node = SocketNode::start();
    for ns in node.clients() {
        for (_, dst) in addresses(&CLUSTER_IP).filter(|(transport, _)| *transport == Transport::Tcp) {
            let mut connection = ns.connect(dst, 0, TIMEOUT).unwrap();
            connection.ask().unwrap();
            assert_eq!(node.socket_flows(dst), 1, "{} -> {dst}", ns.name());
            drop(connection);
            assert_eq!(node.socket_flows(dst), 0, "{} -> {dst} is closed", ns.name());
        }
    }
}

#[test]
fn the_wildcard_address_is_no_node_port_of_a_pod() {
    let node = SocketNode::start();
    // Linux takes a connection to the wildcard address for one to the loopback.
    for ip in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        assert_refused(&node.pod("br1"), Transport::Tcp, SocketAddr::new(ip, 30080));
    }
}
