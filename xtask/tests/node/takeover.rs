//! From kube-proxy to Sluice on one node: a connection that its rules translate lives on, is counted, and keeps them from
//! being removed; then they go, and nothing else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::lab::plan::{HTTP_PORT, cluster_ip};
use xtask::lab::probe::Connection;
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests, ServiceSpec, sluice_binary};

const PATIENCE: Duration = Duration::from_secs(10);

fn takeover(agent: &Agent) -> Value {
    agent.json(&["takeover"]).unwrap()
}

#[test]
fn rules_of_kube_proxy_stay_while_a_connection_needs_them_and_then_go_alone() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    let pod = lab.pod("rt1").unwrap();
    let vip = SocketAddr::new(cluster_ip(20).of(Family::V4), 80);
    let node1 = &lab.node1;
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        node1.command(words[0], &words[1..]).unwrap()
    };
    // As kube-proxy does it in its mode `nftables`; and what it leaves in its mode `iptables`, beside rules of others.
    let target = SocketAddr::new(pod.addr.of(Family::V4), HTTP_PORT);
    for line in [
        "add table ip kube-proxy".to_owned(),
        "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }".to_owned(),
        format!("add rule ip kube-proxy nat-prerouting ip daddr {} tcp dport 80 dnat to {target}", vip.ip()),
        "add table ip mine".to_owned(),
    ] {
        node1.command("nft", &[&line]).unwrap();
    }
    for line in ["-N KUBE-SERVICES", "-N MINE", "-A PREROUTING -j KUBE-SERVICES", "-A PREROUTING -j MINE"] {
        run(&format!("iptables -t nat {line}"));
    }
    let mut old = lab.client.run(|| Ok(Connection::open(vip, 0, PATIENCE)?)).unwrap();
    old.ask().unwrap();

    let manifests = Manifests::of(&lab);
    manifests.service(&ServiceSpec::new("old", cluster_ip(20))).unwrap();
    manifests.ready("old", [pod]).unwrap();
    let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir()).arg("--takeover");
    let agent = Agent::start(&lab, options).unwrap();
    let found = takeover(&agent);
    assert_eq!((&found["connections"], &found["done"]), (&json!(1), &json!(false)), "{found:#}");
    assert_eq!(found["left"], json!(["nft table ip kube-proxy", "1 chains KUBE-... of iptables"]), "{found:#}");
    assert!(found["next"].as_str().unwrap().starts_with("wait until no connection"), "{found:#}");
    let refused = agent.cli(&["takeover", "--clean", "--yes"]).unwrap_err().to_string();
    assert!(refused.contains("1 connections depend on these rules"), "{refused}");
    old.ask().unwrap();
    // A new connection is Sluice's, and depends on nothing of kube-proxy's.
    let mut new = lab.client.run(|| Ok(Connection::open(vip, 0, PATIENCE)?)).unwrap();
    new.ask().unwrap();
    assert_eq!(takeover(&agent)["connections"], 1);

    drop(old);
    let deadline = Instant::now() + PATIENCE;
    while takeover(&agent)["connections"] != 0 {
        assert!(Instant::now() < deadline, "{:#}", takeover(&agent));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(takeover(&agent)["next"], "sluice takeover --clean");
    let refused = agent.cli(&["takeover", "--clean"]).unwrap_err().to_string();
    assert!(refused.contains("there is nobody to ask"), "{refused}");
    let said = agent.cli(&["takeover", "--clean", "--yes"]).unwrap();
    assert!(said.contains("nft delete table ip kube-proxy") && said.contains("iptables-restore --noflush"), "{said}");
    let rules = run("nft list ruleset");
    assert!(!rules.contains("kube-proxy") && !rules.contains("KUBE-") && rules.contains("table ip mine"), "{rules}");
    assert!(rules.contains("jump MINE"), "{rules}");
    new.ask().unwrap();
    let found = takeover(&agent);
    assert_eq!(
        (&found["left"], &found["next"]),
        (&json!([]), &json!("restart Sluice without --takeover")),
        "{found:#}"
    );
}
