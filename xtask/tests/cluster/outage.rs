//! The API away, silent, or without the history that the agent asks for: nothing is taken back meanwhile, and the maps
//! follow the truth afterwards.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use xtask::lab::probe::Transport;
use xtask::lab::{Family, SERVICE_HTTP};

use crate::fixture::Node;
use crate::objects::{pods, service};

const SERVICES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// A node that serves some Services of all Pods.
fn serving() -> Node {
    let node = Node::start();
    for name in SERVICES {
        node.api.apply(&service(name, &json!({})));
        for slice in pods(name, node.lab.pods()) {
            node.api.apply(&slice);
        }
    }
    node.converge();
    node
}

fn asks(node: &Node, dsts: &[std::net::SocketAddr]) {
    for dst in dsts {
        for pod in ["br1", "rt1"] {
            let answer = node.lab.pod(pod).unwrap().ns.ask(Transport::Tcp, *dst);
            answer.unwrap_or_else(|failure| panic!("{pod} -> {dst}: {failure}"));
        }
    }
}

fn frontends(node: &Node) -> Vec<std::net::SocketAddr> {
    let each = |name| Family::ALL.map(|family| node.frontend(name, family, SERVICE_HTTP));
    SERVICES.iter().flat_map(|name| each(name)).collect()
}

/// Changes of every sort, for the agent to miss or to catch up with.
fn change_everything(node: &Node) {
    node.api.delete(&service("one", &json!({})));
    for slice in pods("one", []) {
        node.api.delete(&slice);
    }
    for slice in pods("two", []) {
        node.api.apply(&slice);
    }
    for slice in pods("three", [node.lab.pod("rt2").unwrap()]) {
        node.api.apply(&slice);
    }
    node.api.merge(&service("four", &json!({})), &json!({"spec": {"type": "NodePort"}}));
    node.api.apply(&service("six", &json!({"sessionAffinity": "ClientIP"})));
    for slice in pods("six", node.lab.pods()) {
        node.api.apply(&slice);
    }
}

/// Address, id and generation of each backend.
fn ids(node: &Node) -> Vec<[Value; 3]> {
    let rows = node.agent.json(&["backends"]).unwrap();
    let id = |row: &Value| ["address", "id", "generation"].map(|field| row[field].clone());
    rows.as_array().unwrap().iter().map(id).collect()
}

#[test]
fn a_stopped_api_server_changes_nothing_even_for_an_agent_that_starts_meanwhile() {
    let mut node = serving();
    let (before, dsts) = (node.served(), frontends(&node));
    let known = ids(&node);
    node.cluster.stop_apiserver();
    node.wait_connected(false, Duration::from_secs(5));
    asks(&node, &dsts);
    assert_eq!(node.served(), before);

    node.agent.kill9().unwrap();
    node.agent.spawn().unwrap();
    thread::sleep(Duration::from_secs(4));
    let status = node.agent.json(&["status"]).unwrap();
    assert_eq!(status["synced"], false, "no list was answered yet: {status}");
    assert_eq!(node.served(), before, "an agent that knows nothing yet takes nothing back");
    asks(&node, &dsts);

    node.cluster.start_apiserver().unwrap();
    node.agent.wait_synced(Duration::from_secs(20)).unwrap();
    assert_eq!(node.served(), before);
    assert_eq!(ids(&node), known, "ids changed");
    change_everything(&node);
    node.converge();
}

#[test]
fn a_silent_api_server_changes_nothing_and_is_followed_again_when_it_speaks() {
    let node = serving();
    let (before, dsts) = (node.served(), frontends(&node));
    node.cluster.freeze_apiserver().unwrap();
    thread::sleep(Duration::from_secs(6));
    assert_eq!(node.served(), before);
    asks(&node, &dsts);
    node.cluster.thaw_apiserver().unwrap();
    change_everything(&node);
    node.converge();
}

#[test]
fn changes_missed_together_with_their_history_are_found_by_a_new_list() {
    let mut node = serving();
    let untouched = frontends(&node)[8..].to_vec();
    let agent = Pid::from_raw(node.agent.pid().unwrap().cast_signed());
    kill(agent, Signal::SIGSTOP).unwrap();
    change_everything(&node);
    // The new API server knows only what comes after its start, and its store forgets what came before.
    node.cluster.stop_apiserver();
    node.cluster.compact_etcd().unwrap();
    node.cluster.start_apiserver().unwrap();
    asks(&node, &untouched);
    kill(agent, Signal::SIGCONT).unwrap();
    node.converge_within(Duration::from_secs(15));
    asks(&node, &untouched);
    assert!(node.agent.log().contains("too old"), "{}", node.agent.log_tail());
    node.wait_connected(true, Duration::from_secs(5));
    assert_eq!(node.source("last_error"), serde_json::Value::Null, "it is over");
    // And changes are followed from there on.
    node.api.delete(&service("five", &json!({})));
    node.converge();
}
