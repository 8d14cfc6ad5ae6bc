//! Clients that nobody can serve: told so at once, or met with silence, as the rules ask.

use std::net::SocketAddr;
use std::time::Duration;

use xtask::lab::probe::{Cause, Transport};
use xtask::lab::{Family, plan};

use crate::fixture::{ALL, CLUSTER_IP, FRONTENDS, Node, addresses};

const AT_ONCE: Duration = Duration::from_millis(100);

fn assert_refused(node: &Node, targets: &[(Transport, SocketAddr)]) {
    for client in node.clients() {
        for (transport, dst) in targets {
            let way = format!("{} -> {dst}/{}", client.name, transport.name());
            match client.ns.ask(*transport, *dst) {
                Ok(answer) => panic!("{way}: {} answered", answer.pod),
                Err(failure) => {
                    assert_eq!(failure.cause, Cause::Refused, "{way}: {failure}");
                    assert!(failure.took <= AT_ONCE, "{way}: {failure}");
                }
            }
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let node = Node::start();
    node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
    let targets: Vec<_> = FRONTENDS.iter().flat_map(addresses).collect();
    assert_refused(&node, &targets);
}

#[test]
fn a_service_without_endpoints_refuses_at_once_through_xdp() {
    let node = Node::start_with_xdp();
    node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
    let targets: Vec<_> = FRONTENDS.iter().flat_map(addresses).collect();
    assert_refused(&node, &targets);
}

#[test]
fn a_port_that_the_service_lacks_is_refused_at_once() {
    let node = Node::start();
    let other_port = |(transport, dst): (Transport, SocketAddr)| (transport, SocketAddr::new(dst.ip(), 4444));
    let targets: Vec<_> = addresses(&CLUSTER_IP).map(other_port).collect();
    assert_refused(&node, &targets);
}

#[test]
fn an_unallocated_address_of_the_service_range_is_dropped_by_name() {
    let node = Node::start();
    let dropped = || node.agent.json(&["status"]).unwrap()["counters"]["drop_unallocated_vip"].as_u64().unwrap();
    for client in node.clients() {
        for family in Family::ALL {
            let before = dropped();
            let dst = SocketAddr::new(plan::cluster_ip(250).of(family), 80);
            let asked = client.ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, Duration::from_millis(300)))).unwrap();
            assert_eq!(asked.unwrap_err().cause, Cause::TimedOut, "{} -> {dst}", client.name);
            assert!(dropped() > before, "{} -> {dst}: the drop was not counted", client.name);
        }
    }
}
