//! Ordinary faults on a node, each named by the command that docs/troubleshooting.md says. Those behind Sluice and in
//! other programs are in `check` and `trace`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::lab::plan::{CLIENT_ADDR, NODE1_ADDR, cluster_ip, lb_ip};
use xtask::lab::{Agent, AgentOptions, EndpointState, Family, LabOptions, Manifests, ServiceSpec, sluice_binary};

use crate::check::{check, check_of, said, says};
use crate::fixture::{ALL, Node, all};
use crate::trace::maps;

const PATIENCE: Duration = Duration::from_secs(30);

/// The first three lines of an explanation name the rule.
#[track_caller]
fn explained(node: &Node, args: &[&str], verdict: &str, rule: &str) -> String {
    let text = node.agent.cli(&[&["explain"], args].concat()).unwrap();
    let first: Vec<&str> = text.lines().take(3).collect();
    assert!(first[0].starts_with(&format!("Verdict:   {verdict}")), "{args:?}: {text}");
    assert!(first[1].starts_with(&format!("Rule:      {rule}: ")), "{args:?}: {text}");
    text
}

fn ready_elsewhere(manifests: &Manifests, node: &Node, service: &str, node_name: &str) {
    let pod = node.lab.pod("br1").unwrap().addr.v4.to_string();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "lab", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 5353}],
        "endpoints": [{"addresses": [pod], "nodeName": node_name}],
    });
    manifests.put(&format!("{service}.endpoints.json"), &slice).unwrap();
}

#[test]
fn what_the_objects_say_is_named_by_explain_in_its_first_lines() {
    let node = Node::start();
    let before = maps(&node);
    explained(&node, &["lab/all"], "served", "AllReady");
    assert_eq!(maps(&node), before, "nothing was written");

    let pods: Vec<_> = node.lab.pods().iter().map(|pod| (pod, EndpointState::NotReady)).collect();
    node.change(|manifests| manifests.endpoints(ALL, &pods).unwrap());
    explained(&node, &["lab/all"], "refused", "NoneReady");
    node.change(|manifests| manifests.ready(ALL, node.lab.pods()).unwrap());

    let narrow = ServiceSpec { source_ranges: vec!["203.0.113.0/24".into()], ..all() };
    node.change(|manifests| manifests.service(&narrow).unwrap());
    let (client, vip) = (CLIENT_ADDR.v4.to_string(), format!("{}:80", lb_ip(10).v4));
    explained(&node, &[&vip, "--from", &client], "dropped", "SourceRange");

    let inside = ServiceSpec { internal_local: true, ..ServiceSpec::new("inside", cluster_ip(11)) };
    node.change(|manifests| {
        manifests.service(&inside).unwrap();
        manifests.ready("inside", [node.lab.pod("remote1").unwrap()]).unwrap();
    });
    let text = explained(&node, &["lab/inside", "--from", "pod"], "dropped", "NoneLocal");
    assert!(text.contains("this node is \"node1\"; endpoints are on node2"), "{text}");

    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "foreign", "namespace": "lab", "labels": {"service.kubernetes.io/service-proxy-name": "other"}},
        "spec": {"clusterIP": "10.96.0.12", "ports": [{"port": 80}]},
    });
    node.manifests.put("foreign.json", &foreign).unwrap();
    explained(&node, &["lab/foreign"], "not served", "OtherProxy");

    let folder = node.manifests.dir().to_string_lossy().into_owned();
    let typo = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "typo", "namespace": "lab"},
        "spec": {"clusterIP": "10.96.0.13", "ports": [{"port": 80, "tagetPort": 8080}]},
    });
    node.manifests.put("typo.json", &typo).unwrap();
    let found = check_of(&node.lab.node1, &["--manifests", &folder]);
    says(&found, "fields", "problem", &["tagetPort", "typo.json"]);
}

/// Looks again until the check says something else than that all is well: the agent reads objects in its own time.
fn in_time(node: &Node, of: &str) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = check(node);
        if said(&found, of).0 != "ok" || Instant::now() > deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_wrong_name_of_the_node_and_a_full_map_are_named_by_check() {
    // One of the two has no room beside the Service of the fixture.
    let node = Node::with(LabOptions::default(), &all(), &["--max-frontends", "14"]);
    for (name, number) in [("more1", 51), ("more2", 52)] {
        node.manifests.service(&ServiceSpec::new(name, cluster_ip(number))).unwrap();
        node.manifests.ready(name, node.lab.pods()).unwrap();
    }
    let found = in_time(&node, "refusals");
    says(&found, "refusals", "warning", &["MapFull", "--max-frontends"]);
    let (level, text) = said(&found, "maps");
    assert!(level != "ok" && text.contains("FRONTENDS4") && text.contains("raise --max-frontends"), "{text}");
    for name in ["more1", "more2"] {
        node.manifests.remove(name).unwrap();
    }

    let local = ServiceSpec { external_local: true, ..all() };
    node.manifests.service(&local).unwrap();
    ready_elsewhere(&node.manifests, &node, ALL, "node1.example");
    let found = in_time(&node, "node-name");
    let both = ["policy Local finds no endpoint", "policy Cluster hides clients", "--node-name node1.example"];
    says(&found, "node-name", "problem", &both);
    let port = format!("{}:30080", NODE1_ADDR.of(Family::V4));
    let text = explained(&node, &[&port, "--from", "outside"], "dropped", "NoneLocal");
    assert!(text.contains("this node is \"node1\"; endpoints are on node1.example"), "{text}");
}

/// An agent beside the lab's own manifests, as it is started.
fn started(node: &mut Node, options: AgentOptions) {
    node.agent.stop().unwrap();
    node.agent = Agent::prepare(&node.lab, options);
    node.agent.spawn().unwrap();
}

#[test]
fn an_uplink_that_is_none_and_an_api_server_that_is_away_are_named_by_check_and_status() {
    let mut node = Node::start();
    says(&check(&node), "uplinks", "ok", &["eth0"]);
    let program = sluice_binary().unwrap();
    let folder = node.manifests.dir().to_owned();
    started(&mut node, AgentOptions::new(&program, &folder).arg("--ignore-device=eth0"));
    node.agent.wait_synced(PATIENCE).unwrap();
    says(&check(&node), "uplinks", "problem", &["eth0 is no uplink", "--uplink eth0"]);

    // Port 1 of the node itself: nobody listens there.
    let kubeconfig = folder.with_extension("kubeconfig");
    let config = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                  contexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {}}]\n";
    fs::write(&kubeconfig, config).unwrap();
    started(&mut node, AgentOptions::kube(&program, &kubeconfig));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let status = node.agent.cli(&["status"]).unwrap();
        if status.contains("cannot be read now") || Instant::now() > deadline {
            break status;
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert!(status.starts_with("Health:   NOT HEALTHY") && status.contains("http://127.0.0.1:1"), "{status}");
    let found = check(&node);
    says(&found, "source", "problem", &["http://127.0.0.1:1"]);
    let text = said(&found, "source").1;
    assert!(text.contains("refused"), "it says why: {text}");
}
