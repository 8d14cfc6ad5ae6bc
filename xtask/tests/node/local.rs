//! Clients of all sorts that are source-NATed towards a `ClusterIP` are answered: those that are told apart by device
//! and not local, and all of them under `--masquerade-all`.

use std::collections::BTreeSet;

use xtask::lab::LabOptions;
use xtask::lab::expect::{Client, Source};

use crate::fixture::{CLUSTER_IP, Node, addresses, all};

/// Enough connections that none of five Pods is left out by chance.
const CONNECTIONS: usize = 110;

fn start(args: &[&str]) -> Node {
    Node::with(LabOptions::default(), &all(), args)
}

/// The client reaches every Pod by the `ClusterIP`, and this is whose address they see.
fn assert_seen_as(node: &Node, client: &Client<'_>, source: Source) {
    for (transport, dst) in addresses(&CLUSTER_IP) {
        let way = format!("{} -> {dst}/{}", client.name, transport.name());
        let answers = client.ns.ask_many(transport, dst, CONNECTIONS).unwrap_or_else(|err| panic!("{way}: {err}"));
        let mut met = BTreeSet::new();
        for answer in answers {
            let pod = node.lab.pod(&answer.pod).unwrap();
            let source = if client.addr == pod.addr { Source::Node } else { source };
            let seen = answer.client.ip();
            assert!(source.holds(client, seen), "{way}: {} saw {seen}, expected {source:?}", pod.name);
            met.insert(answer.pod);
        }
        assert_eq!(met.len(), node.lab.pods().len(), "{way}: only {met:?} answered");
    }
}

#[test]
fn clients_behind_the_named_bridge_keep_their_address() {
    let node = start(&["--detect-local", "bridge-interface", "--detect-local-bridge", "cni0"]);
    let [bridged, routed, external] = node.clients();
    assert_seen_as(&node, &bridged, Source::Client);
    assert_seen_as(&node, &routed, Source::Node);
    assert_seen_as(&node, &external, Source::Node);
}

#[test]
fn clients_behind_no_device_of_the_prefix_are_answered_under_the_nodes_address() {
    let node = start(&["--detect-local", "interface-name-prefix", "--detect-local-prefix", "none"]);
    for client in node.clients() {
        assert_seen_as(&node, &client, Source::Node);
    }
    let warnings = node.agent.json(&["status"]).unwrap()["report"]["attach"]["warnings"].clone();
    let warned = |text: &serde_json::Value| text.as_str().unwrap().contains("--detect-local");
    assert!(warnings.as_array().unwrap().iter().any(warned), "{warnings}");
}

/// The same by another switch.
#[test]
fn masqueraded_clients_of_every_sort_are_answered() {
    let node = start(&["--masquerade-all"]);
    for client in node.clients() {
        assert_seen_as(&node, &client, Source::Node);
    }
}
