//! `sluice trace` on a node with real devices: what lies behind Sluice is broken, piece by piece, and named.

use serde_json::{Value, json};
use xtask::lab::Family;
use xtask::lab::probe::Transport;

use crate::fixture::{ALL, CLUSTER_IP, Node};

/// What the maps hold, as far as the command line shows it: flows, counters, fill, traffic.
pub(crate) fn maps(node: &Node) -> Value {
    let [mut flows, backends, status] = ["flows", "backends", "status"].map(|what| node.agent.json(&[what]).unwrap());
    for flow in flows.as_array_mut().unwrap() {
        let of_now = ["age_secs", "idle_secs"];
        flow.as_object_mut().unwrap().retain(|name, _| !of_now.contains(&name.as_str()));
    }
    json!([flows, backends, status["counters"], status["maps"]])
}

fn trace(node: &Node, family: Family, from: &str) -> Value {
    let to = CLUSTER_IP.at(family, Transport::Tcp).to_string();
    node.agent.json(&["trace", "--from", from, "--to", &to]).unwrap()
}

#[track_caller]
fn assert_names(node: &Node, from: &str, verdict: &str, why: &str) {
    let to = CLUSTER_IP.at(Family::V4, Transport::Tcp).to_string();
    let text = node.agent.cli(&["trace", "--from", from, "--to", &to]).unwrap();
    let first: Vec<&str> = text.lines().take(3).collect();
    assert!(first[0].contains(verdict) && first[1].contains(why), "{verdict}: {why}:\n{text}");
}

#[test]
fn trace_names_what_is_broken_behind_sluice_and_changes_no_map() {
    let node = Node::start();
    let pod = node.lab.pod("rt1").unwrap();
    node.change(|manifests| manifests.ready(ALL, [pod]).unwrap());
    let (near, far) = (pod.addr.of(Family::V4).to_string(), node.lab.pod("rt2").unwrap().addr);
    let outside = xtask::lab::plan::CLIENT_ADDR;
    // The kernel knows the Pod's hardware address once it has talked to it.
    for family in Family::ALL {
        node.lab.client.ask(Transport::Tcp, CLUSTER_IP.at(family, Transport::Tcp)).unwrap();
    }
    let before = maps(&node);
    for family in Family::ALL {
        for from in [far.of(family).to_string(), outside.of(family).to_string(), "node".into(), "pod".into()] {
            let answer = trace(&node, family, &from);
            assert_eq!(answer["delivered"], true, "{from}: {answer:#}");
            let backend = answer["backends"][0]["backend"].as_str().unwrap();
            assert!(backend.contains(&pod.addr.of(family).to_string()), "{from}: {answer:#}");
        }
    }
    assert_eq!(maps(&node), before, "nothing was written");

    let here = &node.lab.node1;
    let client = outside.of(Family::V4).to_string();
    let device: Value = serde_json::from_str(&here.command("ip", &["-j", "route", "get", &near]).unwrap()).unwrap();
    let device = device[0]["dev"].as_str().unwrap();
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        here.command(words[0], &words[1..]).unwrap();
    };

    run(&format!("ip route add unreachable {near}/32 metric 0 table 77"));
    run("ip rule add priority 1 table 77");
    assert_names(&node, &client, "no route", &format!("no route to {near}"));
    run("ip rule del priority 1 table 77");

    run(&format!("ip neigh replace {near} dev {device} nud failed"));
    assert_names(&node, &client, "no neighbour", device);
    run(&format!("ip neigh del {near} dev {device}"));
    assert_names(&node, &client, "no neighbour", "no neighbour entry");
    node.lab.client.ask(Transport::Tcp, CLUSTER_IP.at(Family::V4, Transport::Tcp)).unwrap();

    here.sysctl(&[("ipv4/ip_forward", "0")]).unwrap();
    let other = far.of(Family::V4).to_string();
    for from in [&other, &client] {
        assert_names(&node, from, "forwarding off", "net.ipv4.ip_forward is 0");
    }
    here.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();

    let rules = "add table ip cni; add chain ip cni through { type filter hook forward priority 0; policy drop; }; \
                 add rule ip cni through ct state established,related accept; add rule ip cni through tcp dport { 22, 443 } accept";
    here.command("nft", &[rules]).unwrap();
    assert_names(&node, &other, "firewall drop", "FORWARD drop: the policy of chain ip cni through");
    here.command("nft", &["add rule ip cni through tcp dport 8000-9000 accept"]).unwrap();
    let answer = trace(&node, Family::V4, &other);
    assert_eq!(answer["delivered"], true, "{answer:#}");
    run("nft delete table ip cni");

    run(&format!("ip link set {device} mtu 1400"));
    assert_names(&node, &other, "MTU", &format!("{device} takes 1400"));
}
