//! The agent with exactly the rights that `deploy/kustomize` gives it: to the API and on the node.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::lab::plan::{HTTP_PORT, NODE1, NODE1_ADDR};
use xtask::lab::probe::Transport;
use xtask::lab::{Agent, AgentOptions, Family, SERVICE_HTTP, sluice_binary};

use crate::fixture::Node;
use crate::objects::{pods, service, slice};

const NAMESPACE: &str = "kube-system";

/// A node whose agent is deployed, but not started. The folder has its credentials and its program.
fn deployed() -> (Node, TempDir) {
    let mut node = Node::prepare();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    node.cluster.kubectl(&["apply", "-k", &manifests.to_string_lossy()]).unwrap();
    let dir = TempDir::new().unwrap();
    let kubeconfig = service_account(&node, dir.path());
    let program = with_capabilities(&node, dir.path());
    let mut options = AgentOptions::kube(&program, &kubeconfig);
    // The ranges of Services are not given: the API server has them.
    let ranges = options.args.iter().enumerate().filter(|(_, arg)| *arg == "--service-cidr").map(|(at, _)| at);
    for at in ranges.collect::<Vec<_>>().into_iter().rev() {
        options.args.drain(at..at + 2);
    }
    // Whatever CNI the machine itself has.
    node.agent = Agent::prepare(&node.lab, options.arg("--host-ports").arg("on"));
    (node, dir)
}

/// A kubeconfig with a token of the `ServiceAccount` and nothing of the administrator.
fn service_account(node: &Node, dir: &Path) -> PathBuf {
    let token = node.cluster.kubectl(&["create", "token", "sluice", "--namespace", NAMESPACE]).unwrap();
    let path = dir.join("kubeconfig");
    fs::copy(node.cluster.kubeconfig(), &path).unwrap();
    let config = format!("--kubeconfig={}", path.display());
    node.cluster.kubectl(&[&config, "config", "delete-user", "admin"]).unwrap();
    node.cluster.kubectl(&[&config, "config", "set-credentials", "admin", "--token", token.trim()]).unwrap();
    path
}

/// The program under the capabilities of the `DaemonSet`'s container.
fn with_capabilities(node: &Node, dir: &Path) -> PathBuf {
    let path = "jsonpath={.spec.template.spec.containers[0].securityContext.capabilities.add}";
    let added = node.cluster.kubectl(&["get", "daemonset", "sluice", "--namespace", NAMESPACE, "-o", path]).unwrap();
    let added: Vec<String> = serde_json::from_str(&added).unwrap();
    let set = added.iter().fold("-all".to_owned(), |set, capability| format!("{set},+{}", capability.to_lowercase()));
    let program = sluice_binary().unwrap();
    let wrapper = dir.join("sluice");
    let script = format!("#!/bin/sh\nexec setpriv --no-new-privs --bounding-set {set} {} \"$@\"\n", program.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    wrapper
}

#[test]
fn the_deployed_rights_are_enough_to_serve() {
    let (mut node, _dir) = deployed();
    node.agent.spawn().unwrap();
    node.agent.wait_synced(Duration::from_secs(30)).unwrap();
    unallocated_addresses_are_dropped(&node);
    node.api.apply(&service("web", &json!({"type": "NodePort"})));
    for slice in pods("web", node.lab.pods()) {
        node.api.apply(&slice);
    }
    node.converge();
    for family in Family::ALL {
        let dst = node.frontend("web", family, SERVICE_HTTP);
        for pod in ["br1", "rt1"] {
            node.lab.pod(pod).unwrap().ns.ask(Transport::Tcp, dst).unwrap();
        }
    }
    assert_eq!(node.source("connected"), true);
    assert_eq!(node.source("last_error"), Value::Null);
    // An object that says nothing useful costs only itself, and is told so.
    node.api.apply(&stray());
    node.converge();
    wait_event(&node, "Node", "Starting");
    wait_event(&node, "EndpointSlice", "NoServiceName");
    // A restart finds and takes over what is there with the same rights.
    node.agent.kill9().unwrap();
    node.agent.restart().unwrap();
    node.converge();
    a_host_port_leads_to_its_pod(&node);
}

/// A Pod that the API has on this node, with the address of one of the lab's.
fn a_host_port_leads_to_its_pod(node: &Node) {
    let pod = node.lab.pod("br2").unwrap();
    let ip = pod.addr.of(Family::V4).to_string();
    node.api.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hosted", "namespace": NAMESPACE},
        "spec": {
            "nodeName": NODE1, "serviceAccountName": "sluice", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "none", "ports": [{"containerPort": HTTP_PORT, "hostPort": 18_080}]}],
        },
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }));
    let dst = SocketAddr::new(NODE1_ADDR.of(Family::V4), 18_080);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match node.lab.client.ask(Transport::Tcp, dst) {
            Ok(answer) => return assert_eq!(answer.pod, "br2"),
            Err(failure) => assert!(Instant::now() < deadline, "{dst}: {failure}"),
        }
    }
}

/// A slice of no Service.
fn stray() -> Value {
    let mut stray = slice("stray", Family::V4, &[]);
    stray["metadata"]["labels"] = json!({"some": "label"});
    stray
}

/// The range is the API server's own word: nobody has told the agent.
fn unallocated_addresses_are_dropped(node: &Node) {
    let dropped = || node.agent.json(&["status"]).unwrap()["counters"]["drop_unallocated_vip"].as_u64().unwrap();
    for unallocated in ["10.96.200.7:80", "[fd00:96::beef]:80"] {
        let before = dropped();
        let deadline = Instant::now() + Duration::from_secs(10);
        while dropped() == before {
            assert!(Instant::now() < deadline, "{unallocated} is not dropped");
            let asked = node.lab.pod("rt1").unwrap().ns.ask(Transport::Udp, unallocated.parse().unwrap());
            assert!(asked.is_err(), "{asked:?}");
        }
    }
}

/// Waits until the API has an event of the agent.
fn wait_event(node: &Node, kind: &str, reason: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let events = node.cluster.kubectl(&["get", "events.events.k8s.io", "--all-namespaces", "-o", "json"]).unwrap();
        let events: Value = serde_json::from_str(&events).unwrap();
        let is = |event: &Value| {
            event["reportingController"] == "sluice" && event["regarding"]["kind"] == kind && event["reason"] == reason
        };
        if events["items"].as_array().unwrap().iter().any(is) {
            return;
        }
        assert!(Instant::now() < deadline, "no event {reason} on a {kind}: {events:#}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn each_verb_of_the_deployed_role_is_missed() {
    let (mut node, _dir) = deployed();
    let role = node.cluster.kubectl(&["get", "clusterrole", "sluice", "-o", "json"]).unwrap();
    let role: Value = serde_json::from_str(&role).unwrap();
    // Every node finds it: the agent looks whether another one has sent the event.
    node.api.apply(&stray());
    let mut tried = 0;
    for (index, rule) in role["rules"].as_array().unwrap().iter().enumerate() {
        let resource = rule["resources"][0].as_str().unwrap();
        assert_eq!(rule["resources"].as_array().unwrap().len(), 1, "a rule a resource: {rule}");
        for verb in rule["verbs"].as_array().unwrap() {
            let mut rules = role["rules"].as_array().unwrap().clone();
            rules[index]["verbs"].as_array_mut().unwrap().retain(|other| other != verb);
            // The API takes no rule without verbs.
            rules.retain(|rule| rule["verbs"] != json!([]));
            node.api.merge(&role, &json!({"rules": rules}));
            says_what_is_forbidden(&mut node, verb.as_str().unwrap(), resource);
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
    node.api.merge(&role, &json!({"rules": role["rules"]}));
    node.wait_connected(true, Duration::from_secs(20));
    node.converge();
}

/// Starts an agent and waits until its status names the right that it lacks.
fn says_what_is_forbidden(node: &mut Node, verb: &str, resource: &str) {
    if node.agent.pid().is_some() {
        node.agent.kill9().unwrap();
    }
    node.agent.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    let wanted = format!("cannot {verb} resource \"{resource}\"");
    loop {
        let status = node.agent.json(&["status"]).unwrap_or_default();
        // Nothing depends on these: the log says it.
        if ["events", "servicecidrs", "pods"].contains(&resource) && node.agent.log_tail().contains(&wanted) {
            return;
        }
        let own = status["agent"]["pid"].as_u64() == node.agent.pid().map(u64::from);
        let source = &status["report"]["source"];
        let error = source["last_error"].as_str().unwrap_or_default();
        if own && source["connected"] == false && error.contains(&wanted) {
            // What it may not list it does not take for empty.
            let all = verb != "list" || resource == "nodes";
            assert!(all || status["synced"] == false, "{verb} {resource}: {status}");
            return;
        }
        assert!(Instant::now() < deadline, "nothing is said about {wanted}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
}
