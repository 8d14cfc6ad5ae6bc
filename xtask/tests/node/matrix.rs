//! Every kind of frontend x transport x family x client x Pod: reached, and the right source address seen.

use std::collections::BTreeSet;

use xtask::lab::expect::{Client, Source};
use xtask::lab::{LabOptions, RpFilter};

use crate::fixture::{CLUSTER_IP, FRONTENDS, Node, addresses, all};

/// Enough connections that none of five Pods is left out by chance (once in a thousand million runs).
const CONNECTIONS: usize = 110;

fn assert_everything_reached(node: &Node, clients: &[Client<'_>]) {
    for client in clients {
        for frontend in &FRONTENDS {
            for (transport, dst) in addresses(frontend) {
                let way = format!("{} -> {} {dst}/{}", client.name, frontend.kind.name(), transport.name());
                let answers =
                    client.ns.ask_many(transport, dst, CONNECTIONS).unwrap_or_else(|err| panic!("{way}: {err}"));
                let mut met = BTreeSet::new();
                for answer in answers {
                    let pod = node.lab.pod(&answer.pod).unwrap();
                    let source = Source::expected(client, frontend.kind, pod);
                    let seen = answer.client.ip();
                    assert!(source.holds(client, seen), "{way}: {} saw {seen}, expected {source:?}", pod.name);
                    met.insert(answer.pod);
                }
                assert_eq!(met.len(), node.lab.pods().len(), "{way}: only {met:?} answered");
            }
        }
    }
}

#[test]
fn every_frontend_leads_every_client_to_every_pod() {
    let node = Node::start();
    assert_everything_reached(&node, &node.clients());
}

#[test]
fn every_frontend_leads_every_client_to_every_pod_through_xdp() {
    let node = Node::start_with_xdp();
    assert_everything_reached(&node, &node.clients());
}

#[test]
fn bridges_out_of_netfilters_sight_and_loose_paths_make_no_difference() {
    let options = LabOptions { bridge_netfilter: false, rp_filter: RpFilter::Loose, ..LabOptions::default() };
    let node = Node::with(options, &all(), &[]);
    assert_everything_reached(&node, &node.clients());
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let node = Node::start();
    for name in ["br1", "rt1"] {
        let pod = node.lab.pod(name).unwrap();
        let client = Client::pod(pod);
        node.change(|manifests| manifests.ready(crate::fixture::ALL, [pod]).unwrap());
        for (transport, dst) in addresses(&CLUSTER_IP) {
            let answers = client.ns.ask_many(transport, dst, 5).unwrap_or_else(|err| panic!("{name} -> {dst}: {err}"));
            for answer in answers {
                assert_eq!(answer.pod, name);
                assert!(Source::Node.holds(&client, answer.client.ip()), "{name} saw {}", answer.client);
            }
        }
    }
}

#[test]
fn a_direct_connection_survives_reusing_the_port_of_a_service_flow() {
    let node = Node::start();
    let pod = node.lab.pod("rt2").unwrap();
    node.change(|manifests| manifests.ready(crate::fixture::ALL, [pod]).unwrap());
    for client in node.clients() {
        for (port, (family, transport)) in (40_000..).zip(crate::fixture::each_way()) {
            let timeout = xtask::lab::probe::TIMEOUT;
            let service = CLUSTER_IP.at(family, transport);
            let direct = std::net::SocketAddr::new(pod.addr.of(family), transport.pod_port());
            for dst in [service, direct, service] {
                let asked = client.ns.run(|| Ok(transport.ask_once(dst, port, timeout))).unwrap();
                let answer = asked.unwrap_or_else(|err| panic!("{}:{port} -> {dst}: {err}", client.name));
                assert_eq!(answer.pod, "rt2");
            }
        }
    }
}
