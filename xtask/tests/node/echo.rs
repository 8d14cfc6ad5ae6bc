//! Ping to addresses of Services: who is answered, and while there are endpoints.

use std::time::Duration;

use xtask::lab::{Family, ping};

use crate::fixture::{ALL, FRONTENDS, Node};

/// Long enough for an answer that would come.
const SILENCE: Duration = Duration::from_millis(150);

#[test]
fn every_client_is_answered_by_the_addresses_of_a_service_with_endpoints() {
    let node = Node::start_with_xdp();
    let [cluster_ip, _, load_balancer, external] = &FRONTENDS;
    let clients: Vec<_> = node.clients().map(|client| client.ns).into_iter().chain([&node.lab.node1]).collect();
    let each_way = || clients.iter().flat_map(|client| Family::ALL.map(|family| (client, family)));
    for (client, family) in each_way() {
        for frontend in [cluster_ip, load_balancer] {
            let addr = frontend.ip.of(family);
            assert!(ping::answers(client, addr).unwrap(), "{} -> {addr}", client.name());
        }
    }
    let addr = external.ip.of(Family::V4);
    assert!(!ping::answers_within(clients[0], addr, SILENCE).unwrap_or(false), "{addr} is an external IP");
    node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
    for (client, family) in each_way() {
        let addr = cluster_ip.ip.of(family);
        let answered = ping::answers_within(client, addr, SILENCE);
        assert!(!answered.unwrap_or(false), "{} -> {addr} without endpoints", client.name());
    }
}
