//! Services made, changed, scaled and deleted through the API: the maps follow, and so do packets.

use std::net::SocketAddr;

use serde_json::json;
use xtask::lab::plan::{HTTP_PORT, NODE1_ADDR};
use xtask::lab::probe::{Cause, Connection, TIMEOUT, Transport};
use xtask::lab::{Cni, Family, SERVICE_DNS, SERVICE_HTTP};

use crate::fixture::Node;
use crate::objects::{pods, service};

fn reaches(node: &Node, client: &str, dst: SocketAddr, transport: Transport) {
    for each in node.clients().iter().filter(|each| client == "any" || each.name == client) {
        let answer = each.ns.ask(transport, dst);
        answer.unwrap_or_else(|failure| panic!("{} -> {dst} {}: {failure}", each.name, transport.name()));
    }
}

#[test]
fn a_service_of_the_api_serves_packets_through_its_whole_life() {
    let node = Node::start();
    let web = service("web", &json!({"type": "NodePort"}));
    node.api.apply(&web);
    for slice in pods("web", node.lab.pods()) {
        node.api.apply(&slice);
    }
    node.converge();
    let ports = "jsonpath={.spec.ports[*].nodePort}";
    let node_ports = node.cluster.kubectl(&["get", "service", "web", "-o", ports]).unwrap();
    let node_ports: Vec<u16> = node_ports.split(' ').map(|port| port.parse().unwrap()).collect();
    for family in Family::ALL {
        let ports = [(Transport::Tcp, SERVICE_HTTP, node_ports[0]), (Transport::Udp, SERVICE_DNS, node_ports[1])];
        for (transport, port, node_port) in ports {
            let cluster_ip = node.frontend("web", family, port);
            for pod in ["br1", "rt1"] {
                reaches(&node, pod, cluster_ip, transport);
            }
            reaches(&node, "any", SocketAddr::new(NODE1_ADDR.of(family), node_port), transport);
        }
    }

    // Changed: another port, one Pod.
    let port = json!([{"name": "http", "port": 8000, "targetPort": HTTP_PORT}]);
    node.api.replace(&service("web", &json!({"ports": port})));
    for slice in pods("web", [node.lab.pod("rt2").unwrap()]) {
        node.api.apply(&slice);
    }
    node.converge();
    for family in Family::ALL {
        let client = &node.lab.pod("br1").unwrap().ns;
        assert_eq!(client.ask(Transport::Tcp, node.frontend("web", family, 8000)).unwrap().pod, "rt2");
        let old = client.ask(Transport::Tcp, node.frontend("web", family, SERVICE_HTTP)).unwrap_err();
        assert_eq!(old.cause, Cause::Refused, "{old}");
    }

    // Scaled to zero, and up again with a new Pod.
    for slice in pods("web", []) {
        node.api.apply(&slice);
    }
    node.converge();
    let frontends = Family::ALL.map(|family| node.frontend("web", family, 8000));
    for dst in frontends {
        let refused = node.lab.pod("br1").unwrap().ns.ask(Transport::Tcp, dst).unwrap_err();
        assert_eq!(refused.cause, Cause::Refused, "{refused}");
    }
    let Node { lab, .. } = &node;
    for slice in pods("web", [lab.pod("remote1").unwrap(), lab.pod("br2").unwrap()]) {
        node.api.apply(&slice);
    }
    node.converge();
    for dst in frontends {
        reaches(&node, "br1", dst, Transport::Tcp);
        let mut seen: Vec<String> =
            lab.pod("rt1").unwrap().ns.ask_many(Transport::Tcp, dst, 40).unwrap().into_iter().map(|a| a.pod).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["br2", "remote1"]);
    }

    // Deleted: nobody answers for it any more.
    node.api.delete(&web);
    for slice in pods("web", []) {
        node.api.delete(&slice);
    }
    node.converge();
    assert!(node.served().keys().all(|key| !key.starts_with("default/web:")));
    for dst in frontends {
        let failure = lab.pod("br1").unwrap().ns.ask(Transport::Tcp, dst).unwrap_err();
        assert_eq!(failure.cause, Cause::TimedOut, "{failure}");
    }
}

#[test]
fn pods_reach_the_api_server_itself_through_its_service() {
    let node = Node::start();
    node.converge();
    let row = node.served().remove("default/kubernetes:https/TCP IPv4").unwrap();
    assert!(row.to_string().contains(&node.cluster.address().to_string()), "{row}");
    for pod in node.lab.pods().iter().filter(|pod| pod.cni != Cni::Remote) {
        let dst = SocketAddr::new([10, 96, 0, 1].into(), 443);
        let connected = pod.ns.run(|| Ok(Connection::open(dst, 0, TIMEOUT)?));
        connected.unwrap_or_else(|failure| panic!("{} -> {dst}: {failure:#}", pod.name));
    }
}
