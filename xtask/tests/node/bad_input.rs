//! Objects and files that nobody can serve as they stand: each is named, with what to do, in the log and in
//! `sluice status`; everything else goes on working.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};
use std::{net::SocketAddr, thread};

use serde_json::{Value, json};
use xtask::lab::probe::Transport;
use xtask::lab::{Family, LabOptions, ServiceSpec, plan};

use crate::fixture::{ALL, CLUSTER_IP, Node, addresses, all};

/// Files are read, and retried, within moments, but a hundred thousand endpoints take a busy machine a while.
const SOON: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
fn soon<T>(what: &str, node: &Node, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; refusals: {:#?}", refusals(node));
        thread::sleep(Duration::from_millis(20));
    }
}

fn refusals(node: &Node) -> Vec<Value> {
    let status = node.agent.json(&["status"]).unwrap();
    status["report"]["refusals"].as_array().cloned().unwrap_or_default()
}

fn refusal_of(node: &Node, object: &str, reason: &str) -> Option<Value> {
    let is = |row: &Value| row["object"].as_str().is_some_and(|o| o.contains(object)) && row["reason"] == reason;
    refusals(node).into_iter().find(is)
}

/// Waits for a refusal, which must be in the log too, and gives its message.
fn refused(node: &Node, object: &str, reason: &str) -> String {
    let row = soon(&format!("{object} is refused for {reason}"), node, || refusal_of(node, object, reason));
    let message = row["message"].as_str().unwrap().to_owned();
    let named = |line: &str| line.contains(object) && line.contains(reason) && line.contains("WARN");
    soon(&format!("the log names {object}"), node, || node.agent.log().lines().any(named).then_some(()));
    message
}

fn not_refused_any_more(node: &Node, object: &str, reason: &str) {
    soon(&format!("{object} is no longer refused for {reason}"), node, || {
        refusal_of(node, object, reason).is_none().then_some(())
    });
}

/// Everybody still reaches the good Service, by each address.
fn all_is_served(node: &Node) {
    for client in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP) {
            if let Err(failure) = client.ns.ask(transport, dst) {
                panic!("{} -> {dst}/{}: {failure}", client.name, transport.name());
            }
        }
    }
}

/// Whether a Service of the lab answers on its `ClusterIP`, and who.
fn answers(node: &Node, number: u8) -> Option<String> {
    let dst = SocketAddr::new(plan::cluster_ip(number).of(Family::V4), 80);
    let client = &node.clients()[0];
    let asked = client.ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, Duration::from_millis(300)))).unwrap();
    asked.ok().map(|answer| answer.pod)
}

fn add(node: &Node, name: &str, number: u8, pod: &str) {
    node.manifests.service(&ServiceSpec::new(name, plan::cluster_ip(number))).unwrap();
    node.manifests.ready(name, [node.lab.pod(pod).unwrap()]).unwrap();
}

#[test]
fn malformed_yaml_is_named_by_file_and_line_and_costs_nobody_else_anything() {
    let node = Node::start();
    node.manifests.put_text("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: [\n").unwrap();
    let message = refused(&node, "broken.yaml", "FileUnreadable");
    assert!(message.contains("line ") && message.contains("correct it"), "{message}");
    node.manifests.put_text("noise.json", "\u{1}\u{2}{{{{").unwrap();
    refused(&node, "noise.json", "FileUnreadable");
    fs::write(node.manifests.dir().join("bytes.yaml"), [0xff, 0xfe, 0x00, 0x80]).unwrap();
    refused(&node, "bytes.yaml", "FileUnreadable");
    all_is_served(&node);
    add(&node, "later", 20, "br2");
    soon("a Service that came later is served", &node, || answers(&node, 20).filter(|pod| pod == "br2"));
    node.manifests.put_text("broken.yaml", "# nothing any more\n").unwrap();
    not_refused_any_more(&node, "broken.yaml", "FileUnreadable");
}

#[test]
fn a_half_written_file_keeps_its_former_content_in_force() {
    let node = Node::start();
    let path = node.manifests.dir().join(format!("{ALL}.endpoints.json"));
    let whole = fs::read_to_string(&path).unwrap();
    // Still being written: not judged yet.
    let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    file.write_all(&whole.as_bytes()[..whole.len() / 2]).unwrap();
    file.flush().unwrap();
    all_is_served(&node);
    // Given up half-way.
    drop(file);
    refused(&node, "all.endpoints.json", "FileUnreadable");
    all_is_served(&node);
    fs::write(&path, "").unwrap();
    refused(&node, "all.endpoints.json", "FileEmpty");
    all_is_served(&node);
    fs::write(&path, &whole).unwrap();
    not_refused_any_more(&node, "all.endpoints.json", "FileEmpty");
    all_is_served(&node);
}

#[test]
fn of_two_services_with_one_address_the_first_has_it_and_the_other_waits() {
    let node = Node::start();
    add(&node, "twin", 10, "rt2");
    let message = refused(&node, "lab/twin", "DuplicateFrontend");
    assert!(message.contains("lab/all") && message.contains("10.96.0.10:80"), "{message}");
    all_is_served(&node);
    node.manifests.remove(ALL).unwrap();
    soon("the other has the address", &node, || answers(&node, 10).filter(|pod| pod == "rt2"));
    not_refused_any_more(&node, "lab/twin", "DuplicateFrontend");
}

#[test]
fn a_port_0_and_addresses_of_the_wrong_family_cost_only_themselves() {
    let node = Node::start();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd", "namespace": "lab"},
        "spec": {"clusterIPs": ["10.96.0.30", "10.96.0.31", "not-an-address"], "ports": [
            {"name": "zero", "port": 0},
            {"name": "many", "port": 70000},
            {"name": "http", "port": 80},
        ]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "odd-1", "namespace": "lab", "labels": {"kubernetes.io/service-name": "odd"}},
        "ports": [{"name": "http", "port": 8080}, {"name": "zero", "port": 0}],
        "endpoints": [
            {"addresses": ["fd44:1::99"]},
            {"addresses": ["127.0.0.1"]},
            {"addresses": [node.lab.pod("br1").unwrap().addr.v4.to_string()]},
        ],
    });
    node.manifests.put("odd.json", &json!({"kind": "List", "items": [service, slice]})).unwrap();
    assert!(refused(&node, "lab/odd", "BadPort").contains("use 1 to 65535"));
    refused(&node, "lab/odd", "BadAddress");
    refused(&node, "lab/odd-1", "WrongFamily");
    refused(&node, "lab/odd-1", "UnfitAddress");
    soon("what is sound of the Service is served", &node, || answers(&node, 30).filter(|pod| pod == "br1"));
    all_is_served(&node);
}

/// An EndpointSlice of a thousand endpoints, one of a hundred.
fn slices(count: u32) -> Value {
    let slices: Vec<Value> = (0..count)
        .map(|slice| {
            let endpoints: Vec<Value> = (0..1000)
                .map(|n| json!({"addresses": [format!("10.{}.{}.{}", 100 + slice, n / 250, 1 + n % 250)]}))
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": format!("huge-{slice}"), "namespace": "lab",
                    "labels": {"kubernetes.io/service-name": "huge"},
                },
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
                "endpoints": endpoints,
            })
        })
        .collect();
    json!({"kind": "List", "items": slices})
}

#[test]
fn a_service_of_a_hundred_thousand_endpoints_that_does_not_fit_costs_that_service_only() {
    let node = Node::with(LabOptions::default(), &all(), &["--max-backends", "1000"]);
    add(&node, "huge", 40, "br2");
    soon("the Service is served while it is small", &node, || answers(&node, 40));
    node.manifests.put("huge-slices.json", &slices(100)).unwrap();
    let message = refused(&node, "lab/huge", "BackendsFull");
    assert!(message.contains("--max-backends"), "{message}");
    all_is_served(&node);
    assert_eq!(answers(&node, 40).as_deref(), Some("br2"), "the Service stays as it was");
    add(&node, "later", 41, "rt1");
    soon("a Service that came later is served", &node, || answers(&node, 41).filter(|pod| pod == "rt1"));
    fs::remove_file(node.manifests.dir().join("huge-slices.json")).unwrap();
    not_refused_any_more(&node, "lab/huge", "BackendsFull");
    assert_eq!(answers(&node, 40).as_deref(), Some("br2"));
}

#[test]
fn a_service_of_a_hundred_thousand_endpoints_fits_with_default_sizes() {
    let node = Node::start();
    add(&node, "huge", 40, "br2");
    node.manifests.put("huge-slices.json", &slices(100)).unwrap();
    let backends = || node.agent.json(&["status"]).unwrap()["backends"].as_u64().unwrap();
    soon("all endpoints are there", &node, || (backends() >= 100_000).then_some(()));
    all_is_served(&node);
    fs::remove_file(node.manifests.dir().join("huge-slices.json")).unwrap();
    soon("the endpoints are gone again", &node, || (backends() < 1000).then_some(()));
    soon("the small one is left", &node, || answers(&node, 40).filter(|pod| pod == "br2"));
}

#[test]
fn a_full_map_costs_the_service_that_did_not_fit_until_there_is_room() {
    // The Service of the fixture takes 11 per family (loopback NodePorts among them), each further one 3.
    let node = Node::with(LabOptions::default(), &all(), &["--max-frontends", "18"]);
    for (name, number) in [("more1", 51), ("more2", 52), ("more3", 53)] {
        add(&node, name, number, "br2");
        // One after the other, so that it is known who does not fit.
        soon(&format!("{name} is judged"), &node, || {
            let full = refusal_of(&node, &format!("lab/{name}"), "MapFull").is_some();
            (full || answers(&node, number).is_some()).then_some(())
        });
    }
    let message = refused(&node, "lab/more3", "MapFull");
    assert!(message.contains("FRONTENDS") && message.contains("--max-frontends"), "{message}");
    assert_eq!(answers(&node, 53), None);
    all_is_served(&node);
    assert_eq!(answers(&node, 51).as_deref(), Some("br2"));
    node.manifests.remove("more1").unwrap();
    soon("there is room now", &node, || answers(&node, 53).filter(|pod| pod == "br2"));
    not_refused_any_more(&node, "lab/more3", "MapFull");
}
