//! Two uplinks: a reply leaves where the client can be reached.

use std::net::SocketAddr;

use xtask::lab::probe::{Connection, TIMEOUT, Transport};
use xtask::lab::{Family, LabOptions, RpFilter, plan};

use crate::fixture::{FRONTENDS, Node, all, each_way};

/// `node1` with a second uplink to the client.
fn two_uplinks() -> Node {
    let options = LabOptions { rp_filter: RpFilter::Off, ..LabOptions::default() };
    let node = Node::with(options, &all(), &["--uplink", "eth0", "--uplink", "eth1", "--node-port-addresses", "all"]);
    let client = &node.lab.client;
    client.ip(&format!("link add eth1 type veth peer name eth1 netns {}", node.lab.node1.path().display())).unwrap();
    for (ns, host) in [(client, 100), (&node.lab.node1, 11)] {
        ns.ip(&format!(
            "link set eth1 up
            addr add 10.93.0.{host}/24 dev eth1
            addr add fd93::{host}/64 dev eth1 nodad"
        ))
        .unwrap();
    }
    let served = || {
        let status = node.agent.json(&["status"]).unwrap();
        let devices = status["report"]["attach"]["devices"].as_array().unwrap().clone();
        devices.iter().any(|device| device["name"] == "eth1" && device["hooks"].as_array().unwrap().len() == 2)
    };
    for _ in 0..100 {
        if served() {
            return node;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("eth1 is not served: {}", node.agent.log_tail());
}

fn far(family: Family) -> SocketAddr {
    let text = if family == Family::V4 { "10.94.0.1:0" } else { "[fd94::1]:0" };
    text.parse().unwrap()
}

/// The client's requests come by `eth1`; the node has a route to its address by `eth0` alone.
#[test]
fn a_reply_leaves_by_the_uplink_that_leads_to_the_client() {
    let node = two_uplinks();
    let (client, node1) = (&node.lab.client, &node.lab.node1);
    client.ip("addr add 10.94.0.1/32 dev lo\naddr add fd94::1/128 dev lo nodad").unwrap();
    node1
        .ip(&format!(
            "route add 10.94.0.1/32 via {}\nroute add fd94::1/128 via {}",
            plan::CLIENT_ADDR.v4,
            plan::CLIENT_ADDR.v6
        ))
        .unwrap();
    let [lb_v4, lb_v6] = plan::LB_CIDRS;
    client.ip(&format!("route replace {lb_v4} via 10.93.0.11\nroute replace {lb_v6} via fd93::11")).unwrap();
    for (family, transport) in each_way() {
        // Pods of this node and of the other.
        for _ in 0..8 {
            let dst = FRONTENDS[2].at(family, transport);
            let answer = client.run(|| Ok(transport.ask_from(far(family), dst, TIMEOUT))).unwrap();
            answer.unwrap_or_else(|failure| panic!("{} {dst}: {failure}", transport.name()));
        }
    }
    let counters = node.agent.json(&["status"]).unwrap()["counters"].clone();
    assert!(counters["reply_rerouted"].as_u64().unwrap() > 0, "{counters}");
}

/// A connection outlives the uplink by which it began.
#[test]
fn a_connection_goes_on_when_its_uplink_is_gone() {
    let node = two_uplinks();
    let client = &node.lab.client;
    client.ip("addr add 10.94.0.1/32 dev lo\naddr add fd94::1/128 dev lo nodad").unwrap();
    let route = |by: &str, by_v6: &str, ns: &xtask::lab::Netns, nets: [&str; 2]| {
        ns.ip(&format!("route replace {} via {by}\nroute replace {} via {by_v6}", nets[0], nets[1])).unwrap();
    };
    route("10.93.0.11", "fd93::11", client, plan::LB_CIDRS);
    route("10.93.0.100", "fd93::100", &node.lab.node1, ["10.94.0.1/32", "fd94::1/128"]);
    let mut open = Vec::new();
    for family in Family::ALL {
        for _ in 0..8 {
            let dst = FRONTENDS[2].at(family, Transport::Tcp);
            let connection = client.run(|| Ok(Connection::open_from(far(family), dst, TIMEOUT))).unwrap().unwrap();
            open.push((dst, connection));
        }
    }
    for (dst, connection) in &mut open {
        connection.ask().unwrap_or_else(|failure| panic!("{dst} before: {failure}"));
    }
    client.ip("link del eth1").unwrap();
    let (v4, v6) = (plan::NODE1_ADDR.v4.to_string(), plan::NODE1_ADDR.v6.to_string());
    route(&v4, &v6, client, plan::LB_CIDRS);
    let (v4, v6) = (plan::CLIENT_ADDR.v4.to_string(), plan::CLIENT_ADDR.v6.to_string());
    route(&v4, &v6, &node.lab.node1, ["10.94.0.1/32", "fd94::1/128"]);
    for (dst, connection) in &mut open {
        connection.ask().unwrap_or_else(|failure| panic!("{dst} afterwards: {failure}"));
    }
}
