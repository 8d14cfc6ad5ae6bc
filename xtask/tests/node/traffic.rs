//! What is counted for Services and backends, against what real sockets did.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::lab::probe::Transport;
use xtask::lab::{Agent, Family, plan};

use crate::fixture::{ALL, FRONTENDS, Node};

/// Connections and packets each way, by protocol, of one family.
fn counted(agent: &Agent, command: &str, family: &str, protocol: &str) -> [u64; 3] {
    let rows = agent.json(&[command]).unwrap();
    let own = rows.as_array().unwrap().iter().filter(|row| {
        let named = row["service"].as_str().unwrap().ends_with(protocol) || row["protocol"] == protocol;
        row["family"] == family && named
    });
    let number = |row: &Value, name: &str| row["traffic"][name].as_u64().unwrap();
    own.fold([0; 3], |[connections, packets, back], row| {
        [
            connections + number(row, "connections"),
            packets + number(row, "packets"),
            back + number(row, "reply_packets"),
        ]
    })
}

/// Asks so many times from each client at each frontend, and returns how many connections that were.
fn ask(node: &Node, transport: Transport, family: Family, times: usize) -> u64 {
    let mut connections = 0;
    for client in node.clients() {
        for frontend in &FRONTENDS {
            let dst = frontend.at(family, transport);
            let answers = client.ns.ask_many(transport, dst, times).unwrap();
            assert_eq!(answers.len(), times, "{} -> {dst}", client.name);
            connections += answers.len() as u64;
        }
    }
    connections
}

fn each_connection_is_counted_once(node: &Node) {
    for (family, name) in Family::ALL.into_iter().zip(["IPv4", "IPv6"]) {
        for transport in Transport::ALL {
            let protocol = if transport == Transport::Tcp { "TCP" } else { "UDP" };
            let made = ask(node, transport, family, 5);
            let [connections, packets, back] = counted(&node.agent, "services", name, protocol);
            assert_eq!(connections, made, "{name} {protocol}");
            assert_eq!(counted(&node.agent, "backends", name, protocol)[0], made, "{name} {protocol}");
            if transport == Transport::Udp {
                // A question and an answer each, whichever way the flow takes.
                assert_eq!((packets, back), (made, made), "{name}");
            } else {
                // SYN, ACK, request, FIN at least; SYN-ACK, answer, FIN at least.
                assert!(packets >= 4 * made && back >= 3 * made, "{name}: {packets} and {back} of {made}");
            }
        }
    }
}

#[test]
fn each_connection_is_counted_once_by_tc() {
    each_connection_is_counted_once(&Node::start());
}

#[test]
fn each_connection_is_counted_once_with_xdp_in_front() {
    each_connection_is_counted_once(&Node::start_with_xdp());
}

/// Also over a restart, and while no agent runs.
#[test]
fn a_services_numbers_outlive_its_backends_and_the_agent() {
    let mut node = Node::start();
    let made = ask(&node, Transport::Tcp, Family::V4, 5);
    let number = |node: &Node, what| counted(&node.agent, what, "IPv4", "TCP");
    let before = number(&node, "services");
    assert_eq!(before[0], made);
    node.change(|manifests| manifests.ready(ALL, [node.lab.pod("rt2").unwrap()]).unwrap());
    let after = number(&node, "services");
    assert!(after[0] == made && after[1] >= before[1] && after[2] >= before[2], "{before:?}, {after:?}");
    assert!(number(&node, "backends")[0] < made, "that of the others is in the sum alone");
    node.agent.kill9().unwrap();
    let said = node.agent.cli(&["status"]).unwrap();
    assert!(said.starts_with("Health:   NOT HEALTHY") && said.lines().count() <= 10, "{said}");
    node.lab.client.ask_many(Transport::Tcp, FRONTENDS[1].at(Family::V4, Transport::Tcp), 3).unwrap();
    assert_eq!(number(&node, "services")[0], made + 3, "the kernel counts by itself");
    node.agent.restart().unwrap();
    assert_eq!(number(&node, "services")[0], made + 3, "and the next agent goes on from there");
    services_that_do_not_work_are_named(&node);
}

/// One whose backend does not listen there, one whose backend is not there, and one without any.
fn services_that_do_not_work_are_named(node: &Node) {
    let pod = node.lab.pod("br1").unwrap().addr.v4;
    let away = Ipv4Addr::from(u32::from(pod) ^ 0x7f);
    let of = |name: &str, number: u8, endpoint: Option<(Ipv4Addr, u16)>| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "lab", "labels": {"works": name}},
            "spec": {"clusterIP": plan::cluster_ip(number).v4.to_string(), "ports": [{"port": 80}]},
        });
        let slice = endpoint.map(|(address, port)| {
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": format!("{name}-1"), "namespace": "lab",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "ports": [{"port": port}],
                "endpoints": [{"addresses": [address.to_string()]}],
            })
        });
        [Some(service), slice].into_iter().flatten()
    };
    let items: Vec<Value> = of("refuses", 60, Some((pod, 9)))
        .chain(of("away", 61, Some((away, 80))))
        .chain(of("empty", 62, None))
        .collect();
    node.change(|manifests| manifests.put("broken.json", &json!({"kind": "List", "items": items})).unwrap());
    let client = &node.clients()[0];
    for number in 60..63 {
        let dst = SocketAddr::new(plan::cluster_ip(number).of(Family::V4), 80);
        client.ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, Duration::from_millis(300)).is_err())).unwrap();
    }
    let rows = node.agent.json(&["services", "--problems"]).unwrap();
    for (name, expected) in [("refuses", "refused"), ("away", "unanswered"), ("empty", "no-endpoints")] {
        let row = rows.as_array().unwrap().iter().find(|row| row["service"] == format!("lab/{name}"));
        let problem = row.map(|row| row["problems"][0].clone()).unwrap_or_default();
        assert!(problem["problem"] == expected && problem["count"].as_u64() >= Some(1), "{name}: {rows:#}");
    }
    assert!(!rows.to_string().contains(&format!("lab/{ALL}\"")), "{rows:#}");
    let names = node.agent.cli(&["services", "refuses", "-n", "lab", "-o", "jsonpath={.items[*].service}"]).unwrap();
    assert_eq!(names, "lab/refuses\n");
    let names = node.agent.cli(&["services", "-l", "works in (away,empty)", "-o", "name"]).unwrap();
    assert_eq!(names, "service/lab/away/TCP/IPv4\nservice/lab/empty/TCP/IPv4\n");
    let missing = node.agent.cli(&["backends", "nobody"]).unwrap_err().to_string();
    assert!(missing.contains("no such Service in the maps: nobody"), "{missing}");
}
