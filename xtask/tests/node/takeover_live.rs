//! From kube-proxy's rules to Sluice and back, under new connections, long ones and conversations over UDP.
//!
//! The rules are as kube-proxy writes them in its modes `nftables` and `iptables`: a Service's packets are led to one of its Pods
//! by connection tracking, and what comes from outside is masqueraded. `SLUICE_FULL_SIZE=1` has as many connections and
//! conversations as a node of some size.

use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::plan::{CLUSTER_CIDRS, DNS_PORT, HTTP_PORT, NODE1_ADDR, cluster_ip};
use xtask::lab::probe::{Connection, TIMEOUT, UdpClient};
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests, Netns, ServiceSpec, sluice_binary};

use crate::load::Load;

const NODE_PORTS: [u16; 2] = [30080, 30053];
/// Pods that the rules lead to.
const PODS: [&str; 2] = ["rt1", "br2"];
/// How long each state lasts.
const STAY: Duration = Duration::from_secs(3);
const SYNCED_WITHIN: Duration = Duration::from_secs(30);
/// A conversation asks this often, and does not wait longer for an answer.
const EVERY: Duration = Duration::from_millis(20);
const UDP_BACK_WITHIN: Duration = Duration::from_millis(200);

/// Who asks: a Pod at the Service's address, and somebody outside at the node's.
struct Asker {
    ns: Netns,
    tcp: SocketAddr,
    udp: SocketAddr,
}

fn askers(lab: &Lab) -> Vec<Asker> {
    let vip = cluster_ip(20).of(Family::V4);
    let node = NODE1_ADDR.of(Family::V4);
    let inside = lab.pod("rt2").unwrap().ns.clone();
    vec![
        Asker { ns: inside, tcp: (vip, 80).into(), udp: (vip, 53).into() },
        Asker { ns: lab.client.clone(), tcp: (node, NODE_PORTS[0]).into(), udp: (node, NODE_PORTS[1]).into() },
    ]
}

/// Connections and conversations of each asker.
fn size() -> (usize, usize) {
    if env::var_os("SLUICE_FULL_SIZE").is_some() { (250, 50) } else { (25, 10) }
}

fn nftables(lab: &Lab) -> Vec<String> {
    let [vip, node] = [cluster_ip(20), NODE1_ADDR].map(|address| address.of(Family::V4));
    let to = |port: u16| {
        let pods = PODS.map(|name| lab.pod(name).unwrap().addr.of(Family::V4));
        format!("dnat to numgen random mod 2 map {{ 0 : {}, 1 : {} }} : {port}", pods[0], pods[1])
    };
    let mut lines = vec![
        "add table ip kube-proxy".to_owned(),
        "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }".to_owned(),
        "add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100; }".to_owned(),
        format!("add rule ip kube-proxy nat-postrouting ct status dnat ip saddr != {} masquerade", CLUSTER_CIDRS[0]),
    ];
    for (protocol, ports, pod) in [("tcp", [80, NODE_PORTS[0]], HTTP_PORT), ("udp", [53, NODE_PORTS[1]], DNS_PORT)] {
        for (address, port) in [(vip, ports[0]), (node, ports[1])] {
            lines.push(format!(
                "add rule ip kube-proxy nat-prerouting ip daddr {address} {protocol} dport {port} {}",
                to(pod)
            ));
        }
    }
    lines.into_iter().map(|line| format!("nft {line}")).collect()
}

fn iptables(lab: &Lab) -> Vec<String> {
    let [vip, node] = [cluster_ip(20), NODE1_ADDR].map(|address| address.of(Family::V4));
    let pods = PODS.map(|name| lab.pod(name).unwrap().addr.of(Family::V4));
    let mut lines: Vec<String> = [
        "-N KUBE-SERVICES",
        "-N KUBE-POSTROUTING",
        "-A PREROUTING -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.push(format!("-A KUBE-POSTROUTING -m conntrack --ctstate DNAT ! -s {} -j MASQUERADE", CLUSTER_CIDRS[0]));
    for (protocol, ports, pod) in [("tcp", [80, NODE_PORTS[0]], HTTP_PORT), ("udp", [53, NODE_PORTS[1]], DNS_PORT)] {
        for (address, port) in [(vip, ports[0]), (node, ports[1])] {
            let rule = format!("-A KUBE-SERVICES -d {address} -p {protocol} --dport {port}");
            lines.push(format!(
                "{rule} -m statistic --mode random --probability 0.5 -j DNAT --to-destination {}:{pod}",
                pods[0]
            ));
            lines.push(format!("{rule} -j DNAT --to-destination {}:{pod}", pods[1]));
        }
    }
    lines.into_iter().map(|line| format!("iptables -t nat {line}")).collect()
}

/// What a conversation has to say: the longest time between two answers.
fn converse(asker: &Asker, number: usize, stop: &AtomicBool) -> Duration {
    asker.ns.enter().unwrap();
    let mut clients: Vec<(UdpClient, Instant)> =
        (0..number).map(|_| (UdpClient::open(asker.udp, 0, EVERY).unwrap(), Instant::now())).collect();
    let mut longest = Duration::ZERO;
    for (client, last) in &mut clients {
        while client.ask().is_err() {}
        *last = Instant::now();
    }
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for (client, last) in &mut clients {
            if client.ask().is_ok() {
                longest = longest.max(last.elapsed());
                *last = Instant::now();
            }
        }
        thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    // One that never came back counts for what it has waited.
    clients.iter().map(|(_, last)| last.elapsed()).fold(longest, Duration::max)
}

/// Gives what was measured, for people.
fn there_and_back(rules: impl Fn(&Lab) -> Vec<String>, mode: &str) -> String {
    let lab = Lab::start(LabOptions::default()).unwrap();
    for line in rules(&lab) {
        let (program, rest) = line.split_once(' ').unwrap();
        let words: Vec<&str> = if program == "nft" { vec![rest] } else { rest.split(' ').collect() };
        lab.node1.command(program, &words).unwrap();
    }
    let manifests = Manifests::of(&lab);
    let service = ServiceSpec { node_ports: Some(NODE_PORTS), ..ServiceSpec::new("old", cluster_ip(20)) };
    manifests.service(&service).unwrap();
    manifests.ready("old", PODS.map(|name| lab.pod(name).unwrap())).unwrap();
    let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir()).arg("--takeover");
    let askers = askers(&lab);
    let (connections, conversations) = size();
    let (load, stop) = (Load::default(), AtomicBool::new(false));
    let open = |asker: &Asker| -> Vec<Connection> {
        let all = || (0..connections).map(|_| Ok(Connection::open(asker.tcp, 0, TIMEOUT)?)).collect();
        asker.ns.run(all).unwrap()
    };
    let alive = |of: &mut [Vec<Connection>], when: &str| {
        let failed: Vec<String> =
            of.iter_mut().flatten().filter_map(|c| c.ask().err()).map(|f| f.to_string()).collect();
        assert!(failed.is_empty(), "{mode}, {when}: {} of {}: {failed:?}", failed.len(), 2 * connections);
    };
    let namespaces: Vec<Netns> = askers.iter().map(|asker| asker.ns.clone()).collect();
    let targets: Vec<SocketAddr> = askers.iter().map(|asker| asker.tcp).collect();
    let mut theirs: Vec<Vec<Connection>> = askers.iter().map(open).collect();
    alive(&mut theirs, "kube-proxy's rules alone");
    thread::scope(|scope| {
        let workers = load.start(scope, &namespaces, &targets);
        let talkers: Vec<_> =
            askers.iter().map(|asker| scope.spawn(|| converse(asker, conversations, &stop))).collect();
        let begun = Instant::now();
        thread::sleep(STAY);
        let mut agent = Agent::prepare(&lab, options.clone());
        agent.spawn().unwrap();
        agent.wait_synced(SYNCED_WITHIN).unwrap();
        thread::sleep(STAY);
        alive(&mut theirs, "Sluice serves");
        let found = agent.json(&["takeover"]).unwrap();
        assert!(found["connections"].as_u64().unwrap() >= 2 * connections as u64, "{found:#}");
        let mut ours: Vec<Vec<Connection>> = askers.iter().map(open).collect();
        let served = load.done.load(Ordering::Relaxed);
        // Back, as docs/migration.md has it.
        agent.stop().unwrap();
        let leaving = begun.elapsed();
        let draining = scope.spawn(move || {
            let begun = Instant::now();
            agent.cli(&["cleanup", "--drain", "60"]).unwrap();
            begun.elapsed()
        });
        thread::sleep(STAY);
        assert!(!draining.is_finished(), "{mode}: connections are open");
        alive(&mut theirs, "Sluice lets its connections end");
        alive(&mut ours, "Sluice lets its connections end");
        drop(ours);
        let drained = draining.join().unwrap();
        let back = begun.elapsed();
        assert!(drained < STAY + Duration::from_secs(10), "{mode}: {drained:?}");
        thread::sleep(STAY);
        alive(&mut theirs, "kube-proxy's rules again");
        load.stop.store(true, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        let failures: Vec<String> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        let longest: Vec<Duration> = talkers.into_iter().map(|talker| talker.join().unwrap()).collect();
        let done = load.done.load(Ordering::Relaxed);
        let said = format!(
            "{mode}: {} of {} long connections alive, {done} new ones ({served} before the way back), {} failed; \
             longest silence of {} conversations: {longest:?}",
            2 * connections,
            2 * connections,
            failures.len(),
            2 * conversations
        );
        let when = format!("Sluice serves until {leaving:?} and is gone after {back:?}");
        // Known: while Sluice lets its connections end, about one of 6,000 that the rules masquerade gets no answer.
        assert!(
            failures.len() * 1_000 <= done,
            "{mode}: {when}; of {done} new connections these failed: {failures:#?}"
        );
        assert!(longest.iter().all(|silence| *silence < UDP_BACK_WITHIN), "{mode}: {longest:?}");
        said
    })
}

#[test]
fn from_nftables_rules_to_sluice_and_back_connections_go_on() {
    eprintln!("{}", there_and_back(nftables, "nftables"));
}

#[test]
fn from_iptables_rules_to_sluice_and_back_connections_go_on() {
    eprintln!("{}", there_and_back(iptables, "iptables"));
}
