//! Pods' host ports: reached by every client, on the node's addresses and on loopback; left to the CNI where that leads them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use xtask::lab::plan::{DNS_PORT, Dual, HTTP_PORT, NODE1_ADDR};
use xtask::lab::probe::{Cause, Transport};
use xtask::lab::{Family, Netns, Pod};

use crate::sockets::SocketNode;

/// The host port of each Pod.
const PORT: u16 = 54_323;

/// A Pod of the lab with host ports: transport and `hostIP` of each.
fn object(pod: &Pod, ports: &[(Transport, Option<std::net::IpAddr>)]) -> Value {
    let port = |(transport, ip): &(Transport, Option<std::net::IpAddr>)| {
        let target = if *transport == Transport::Tcp { HTTP_PORT } else { DNS_PORT };
        let mut port = json!({"containerPort": target, "hostPort": PORT, "protocol": transport.name()});
        if let Some(ip) = ip {
            port["hostIP"] = json!(ip.to_string());
        }
        port
    };
    let ips: Vec<_> = Family::ALL.iter().map(|family| json!({"ip": pod.addr.of(*family).to_string()})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": "lab"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "ports": ports.iter().map(port).collect::<Vec<_>>()}]},
        "status": {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips},
    })
}

fn put(node: &SocketNode, pod: &str, ports: &[(Transport, Option<std::net::IpAddr>)]) {
    let pod = node.node.lab.pod(pod).unwrap();
    let object = object(pod, ports);
    node.node.change(|manifests| manifests.put(&format!("{}.pod.json", pod.name), &object).unwrap());
}

fn assert_reached(client: &Netns, transport: Transport, at: SocketAddr, pod: &str) {
    let way = format!("{} -> {at}/{}", client.name(), transport.name());
    let answer = client.ask(transport, at).unwrap_or_else(|err| panic!("{way}: {err}"));
    assert_eq!(answer.pod, pod, "{way}");
}

#[test]
fn every_client_reaches_a_host_port_and_pods_with_the_same_one_do_not_meet() {
    // Whatever CNI the machine itself has.
    let node = SocketNode::with(&crate::fixture::all(), &["--host-ports", "on"]);
    let loopback = Dual { v4: std::net::Ipv4Addr::LOCALHOST, v6: std::net::Ipv6Addr::LOCALHOST };
    let clients = || node.clients().into_iter().chain([node.node.lab.client.clone()]);
    // One Pod has both protocols everywhere.
    put(&node, "br2", &[(Transport::Tcp, None), (Transport::Udp, None)]);
    for (family, transport) in crate::fixture::each_way() {
        let at = SocketAddr::new(NODE1_ADDR.of(family), PORT);
        for client in clients() {
            assert_reached(&client, transport, at, "br2");
        }
        assert_reached(&node.host(), transport, SocketAddr::new(loopback.of(family), PORT), "br2");
        // Its own host port leads a Pod to itself.
        assert_reached(&node.pod("br2"), transport, at, "br2");
    }
    // As upstream's suite has it: the same port on another address, or of another protocol.
    put(&node, "br2", &[(Transport::Tcp, Some(loopback.v4.into()))]);
    put(&node, "rt1", &[(Transport::Tcp, Some(NODE1_ADDR.v4.into()))]);
    put(&node, "rt2", &[(Transport::Udp, Some(NODE1_ADDR.v4.into()))]);
    let at = SocketAddr::new(NODE1_ADDR.v4.into(), PORT);
    assert_reached(&node.host(), Transport::Tcp, SocketAddr::new(loopback.v4.into(), PORT), "br2");
    for client in clients() {
        assert_reached(&client, Transport::Tcp, at, "rt1");
        assert_reached(&client, Transport::Udp, at, "rt2");
    }
}

#[test]
fn host_ports_are_left_to_the_cnis_portmap_where_that_leads_them() {
    let mut node = SocketNode::start();
    let node1 = node.node.lab.node1.clone();
    node1.command("nft", &["add table ip nat; add chain ip nat CNI-HOSTPORT-DNAT"]).unwrap();
    node.node.agent.kill9().unwrap();
    node.node.agent.restart().unwrap();
    let at = SocketAddr::new(NODE1_ADDR.v4.into(), PORT);
    let pod = object(node.node.lab.pod("br2").unwrap(), &[(Transport::Tcp, None)]);
    node.node.manifests.put("br2.pod.json", &pod).unwrap();
    let told = || node.node.agent.json(&["status"]).unwrap()["report"]["host_ports"].as_str().unwrap().to_owned();
    assert!(told().contains("nat/CNI-HOSTPORT-DNAT"), "{}", told());
    let failure = node.node.lab.client.ask(Transport::Tcp, at).unwrap_err();
    assert_eq!(failure.cause, Cause::Refused, "{failure}: the node's own stack has nobody there");
}
