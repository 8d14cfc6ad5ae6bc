//! `sluice check` on a node: what is wrong around Sluice is named with what to do, and nothing is changed by looking.

use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::lab::{Agent, AgentOptions, LabOptions, Netns, sluice_binary};

use crate::fixture::{Node, all};

/// What the checks find, whatever the exit code.
pub(crate) fn check(node: &Node) -> Vec<Value> {
    let pins = node.agent.pin_path().to_string_lossy().into_owned();
    check_of(&node.lab.node1, &["--pin-path", &pins])
}

/// The same with these arguments.
pub(crate) fn check_of(node: &Netns, args: &[&str]) -> Vec<Value> {
    let output =
        node.run(|| Ok(Command::new(sluice_binary()?).args(["check", "-o", "json"]).args(args).output()?)).unwrap();
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), checked["level"] != "problem", "{checked}");
    checked["findings"].as_array().unwrap().clone()
}

/// Level of a check, and all that it says and advises.
pub(crate) fn said(found: &[Value], check: &str) -> (String, String) {
    let of_check: Vec<&Value> = found.iter().filter(|line| line["check"] == check).collect();
    assert!(!of_check.is_empty(), "{check}: {found:#?}");
    let text = of_check.iter().map(|line| format!("{} {}", line["found"], line["todo"])).collect();
    let worst = ["problem", "warning", "skipped", "ok"].into_iter();
    let level = worst.into_iter().find(|level| of_check.iter().any(|line| line["level"] == *level));
    (level.unwrap_or_default().to_owned(), text)
}

#[track_caller]
pub(crate) fn says(found: &[Value], check: &str, level: &str, parts: &[&str]) {
    let (found_level, text) = said(found, check);
    assert_eq!(found_level, level, "{check}: {text}");
    for part in parts {
        assert!(text.contains(part), "{check}: {part}: {text}");
    }
}

/// What nobody may change by looking.
fn state(node: &Node) -> [String; 4] {
    let cli = |args: &[&str]| node.agent.cli(args).unwrap();
    let rules = node.lab.node1.command("nft", &["list", "ruleset"]).unwrap();
    let sysctls = node.lab.node1.command("sysctl", &["-a", "--pattern", "^net.ipv[46].conf"]).unwrap_or_default();
    [cli(&["services", "-o", "json"]), cli(&["backends", "-o", "json"]), rules, sysctls]
}

const PATIENCE: Duration = Duration::from_secs(60);

const FILTERS: &str = "
    add table inet lab
    add chain inet lab input { type filter hook input priority 0; }
    add rule inet lab input tcp dport 30080 drop
    add rule inet lab input ip daddr 10.96.0.10 drop
    add chain inet lab forward { type filter hook forward priority 0; policy drop; }
    add table ip kube-proxy
    add chain ip kube-proxy services
";

#[test]
fn check_names_what_is_wrong_around_sluice_and_changes_nothing() {
    let mut node = Node::with(LabOptions::default(), &all(), &[]);
    let node1 = node.lab.node1.clone();
    let before = state(&node);
    let found = check(&node);
    for check in ["agent", "source", "refusals", "maps", "node-name", "uplinks", "ports", "snat-ports", "forwarding"] {
        says(&found, check, "ok", &[]);
    }
    for check in ["backends", "forward-policy", "firewall-rules", "kube-proxy"] {
        says(&found, check, "ok", &[]);
    }
    assert_eq!(state(&node), before);

    node1.sysctl(&[("ipv4/ip_forward", "0")]).unwrap();
    let listener = node1.run(|| Ok(TcpListener::bind("0.0.0.0:30080")?)).unwrap();
    for line in FILTERS.lines().map(str::trim).filter(|line| !line.is_empty()) {
        node1.command("nft", &[line]).unwrap();
    }
    let found = check(&node);
    says(&found, "forwarding", "problem", &["net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"]);
    says(&found, "ports", "warning", &["30080 of lab/all"]);
    says(&found, "forward-policy", "problem", &["nft inet lab forward drops IPv4"]);
    says(&found, "firewall-rules", "warning", &["2 rules", "nft delete rule inet lab input handle"]);
    says(&found, "kube-proxy", "warning", &["nft table ip kube-proxy", "nft delete table ip kube-proxy"]);
    drop(listener);
    node1.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();
    for table in ["ip kube-proxy", "inet lab"] {
        node1.command("nft", &[&format!("delete table {table}")]).unwrap();
    }
    let found = check(&node);
    for check in ["forwarding", "ports", "forward-policy", "firewall-rules", "kube-proxy"] {
        says(&found, check, "ok", &[]);
    }

    let options = AgentOptions::new(&sluice_binary().unwrap(), node.manifests.dir());
    let options = options.arg("--healthz-bind-address=off").arg("--metrics-bind-address=off");
    let mut second = Agent::with_pins(&node.lab, "second", options);
    second.spawn().unwrap();
    second.wait_synced(PATIENCE).unwrap();
    says(&check(&node), "programs", "problem", &["another Sluice serves this node", "sluice cleanup --pin-path"]);

    node.agent.kill9().unwrap();
    says(&check(&node), "agent", "problem", &["the agent does not run"]);
}

/// A Service in front of a Pod's port on which nothing listens.
fn wrong_target_port(node: &Node) -> Value {
    let pod = node.lab.pod("br1").unwrap().addr.v4.to_string();
    json!({"kind": "List", "apiVersion": "v1", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "typo", "namespace": "lab"},
            "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "typo-1", "namespace": "lab", "labels": {"kubernetes.io/service-name": "typo"}},
            "ports": [{"port": 9}], "endpoints": [{"addresses": [pod], "nodeName": "node1"}]},
    ]})
}

/// The line about a backend, of what lies behind Sluice.
fn behind(node: &Node, service: &str, options: &[&str], backend: IpAddr) -> String {
    let explained = node.agent.json(&[&["explain", service], options].concat()).unwrap();
    let lines = explained["behind"].as_array().unwrap();
    let of_backend = lines.iter().filter_map(Value::as_str).find(|line| line.contains(&backend.to_string()));
    of_backend.unwrap_or_else(|| panic!("{backend}: {lines:?}")).to_owned()
}

#[test]
fn explain_names_what_is_wrong_behind_sluice() {
    let mut node = Node::start();
    let node1 = node.lab.node1.clone();
    let address = |node: &Node, pod: &str| IpAddr::from(node.lab.pod(pod).unwrap().addr.v4);
    let sound = node.agent.json(&["explain", "lab/all", "--probe"]).unwrap();
    assert_eq!(sound["behind"], json!([]));

    let typo = wrong_target_port(&node);
    node.change(|manifests| manifests.put("typo.json", &typo).unwrap());
    let line = behind(&node, "lab/typo", &["--probe"], address(&node, "br1"));
    assert!(line.contains("nothing listens on port 9") && line.contains("targetPort"), "{line}");

    node1.ip("link set calirt1 down").unwrap();
    let line = behind(&node, "lab/all", &[], address(&node, "rt1"));
    let any = ["said to be on this node", "there is no route", "is down"];
    assert!(any.iter().any(|part| line.contains(part)), "{line}");

    let remote = address(&node, "remote1");
    node1.ip(&format!("route add unreachable {remote}/32")).unwrap();
    let line = behind(&node, "lab/all", &[], remote);
    assert!(line.contains("there is no route") && line.contains("ip route get"), "{line}");
    says(&check(&node), "backends", "problem", &["there is no route"]);
    node1.ip(&format!("route del unreachable {remote}/32")).unwrap();

    node.lab.remove_pod("remote1").unwrap();
    let line = behind(&node, "lab/all", &["--probe"], remote);
    let any = ["does not answer", "nobody on", "cannot be reached"];
    assert!(any.iter().any(|part| line.contains(part)), "{line}");
}
