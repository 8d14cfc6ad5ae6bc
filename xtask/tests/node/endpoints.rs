//! Endpoints that come and go under open connections.

use std::time::Duration;

use xtask::lab::probe::{Cause, TIMEOUT, Transport};
use xtask::lab::{EndpointState, Family, LabOptions, Pod, ServiceSpec};

use crate::fixture::{ALL, CLUSTER_IP, FRONTENDS, Node, addresses, all};

fn others<'a>(node: &'a Node, gone: &'a str) -> impl Iterator<Item = &'a Pod> {
    node.lab.pods().iter().filter(move |pod| pod.name != gone)
}

#[test]
fn new_connections_avoid_a_removed_endpoint_at_once() {
    let node = Node::start();
    node.change(|manifests| manifests.ready(ALL, others(&node, "br2")).unwrap());
    for client in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            let answers = client.ns.ask_many(transport, dst, 60).unwrap();
            assert!(answers.iter().all(|answer| answer.pod != "br2"), "{} -> {dst}", client.name);
        }
    }
}

#[test]
fn terminating_backend_keeps_established_flows() {
    let node = Node::start();
    for client in node.clients() {
        for frontend in &FRONTENDS {
            for family in Family::ALL {
                let dst = frontend.at(family, Transport::Tcp);
                let mut connection = client.ns.connect(dst, 0, TIMEOUT).unwrap();
                let pod = connection.ask().unwrap().pod;
                let endpoints: Vec<_> = node
                    .lab
                    .pods()
                    .iter()
                    .map(|each| {
                        (each, if each.name == pod { EndpointState::Terminating } else { EndpointState::Ready })
                    })
                    .collect();
                node.change(|manifests| manifests.endpoints(ALL, &endpoints).unwrap());
                for _ in 0..5 {
                    assert_eq!(connection.ask().unwrap().pod, pod, "{} -> {dst}", client.name);
                }
                let fresh = client.ns.ask_many(Transport::Tcp, dst, 40).unwrap();
                assert!(fresh.iter().all(|answer| answer.pod != pod), "{} -> {dst}: new ones avoid it", client.name);
                node.change(|manifests| manifests.ready(ALL, node.lab.pods()).unwrap());
            }
        }
    }
}

#[test]
fn a_udp_flow_moves_at_once_when_its_pod_goes() {
    let node = Node::start();
    for client in node.clients() {
        for frontend in &FRONTENDS {
            for family in Family::ALL {
                let dst = frontend.at(family, Transport::Udp);
                let mut udp = client.ns.udp(dst, 0, Duration::from_millis(500)).unwrap();
                let pod = udp.ask().unwrap().pod;
                assert_eq!(udp.ask().unwrap().pod, pod, "a flow stays with its Pod");
                node.change(|manifests| manifests.ready(ALL, others(&node, &pod)).unwrap());
                let moved = udp.ask().unwrap_or_else(|err| panic!("{} -> {dst}: {err}", client.name));
                assert_ne!(moved.pod, pod, "{} -> {dst}", client.name);
                node.change(|manifests| manifests.ready(ALL, node.lab.pods()).unwrap());
            }
        }
    }
}

#[test]
fn a_udp_flow_is_refused_when_the_last_pod_goes_and_served_when_one_comes() {
    let node = Node::start();
    for client in node.clients() {
        for family in Family::ALL {
            let dst = CLUSTER_IP.at(family, Transport::Udp);
            let mut udp = client.ns.udp(dst, 0, Duration::from_millis(500)).unwrap();
            udp.ask().unwrap();
            node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
            let failure = udp.ask().unwrap_err();
            assert_eq!(failure.cause, Cause::Refused, "{} -> {dst}: {failure}", client.name);
            node.change(|manifests| manifests.ready(ALL, [node.lab.pod("rt2").unwrap()]).unwrap());
            assert_eq!(udp.ask().unwrap().pod, "rt2", "{} -> {dst}", client.name);
            node.change(|manifests| manifests.ready(ALL, node.lab.pods()).unwrap());
        }
    }
}

/// `externalTrafficPolicy: Local`, by the address of a node that has endpoints, and of one that has none.
#[test]
fn a_pod_of_another_node_gets_no_endpoint_elsewhere_at_a_node_port() {
    let service = ServiceSpec { external_local: true, ..all() };
    let node = Node::with(LabOptions::default(), &service, &[]);
    let client = node.lab.pod("remote1").unwrap();
    let node_port = || addresses(&FRONTENDS[1]);
    for (transport, dst) in node_port() {
        let answers = client.ns.ask_many(transport, dst, 40).unwrap_or_else(|err| panic!("{dst}: {err}"));
        assert!(answers.iter().all(|answer| answer.pod != "remote1"), "{dst}");
    }
    node.change(|manifests| manifests.ready(ALL, [client]).unwrap());
    for (transport, dst) in node_port() {
        let asked = client.ns.run(|| Ok(transport.ask_once(dst, 0, Duration::from_millis(200)))).unwrap();
        assert_eq!(asked.unwrap_err().cause, Cause::TimedOut, "{dst}");
    }
}
