//! Upgrades under load: other sizes of maps, some of them stopped at a random moment. No connection notices.

use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use xtask::lab::probe::{Connection, TIMEOUT, Transport, UdpClient};
use xtask::lab::{Agent, AgentOptions, Family, Netns, sluice_binary};

use crate::fixture::{FRONTENDS, Node};
use crate::load::Load;

/// Long connections and conversations by each sort of client.
const CONNECTIONS: usize = 167;
const CONVERSATIONS: usize = 34;
/// Upgrades, and with `SLUICE_FULL_SIZE=1`.
const UPGRADES: usize = 4;
const ALL_UPGRADES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `sluice run` whose maps change, with their sizes.
const SIZES: [(&str, u32); 8] = [
    ("--max-flows", 1 << 18),
    ("--max-embryonic-flows", 1 << 14),
    ("--max-affinity", 1 << 13),
    ("--max-sockets", 1 << 13),
    ("--max-frontends", 1 << 12),
    ("--max-backends", 1 << 12),
    ("--max-slots", 1 << 13),
    ("--max-services", 1 << 11),
];

fn upgrades() -> usize {
    if env::var_os("SLUICE_FULL_SIZE").is_some() { ALL_UPGRADES } else { UPGRADES }
}

/// An agent with these sizes, or with doubled ones.
fn options(node: &Node, doubled: bool) -> AgentOptions {
    let options = AgentOptions::new(&sluice_binary().unwrap(), node.manifests.dir());
    SIZES
        .iter()
        .fold(options, |options, (flag, entries)| options.arg(flag).arg(&(entries << u32::from(doubled)).to_string()))
}

fn targets(transport: Transport) -> Vec<SocketAddr> {
    FRONTENDS.iter().flat_map(|frontend| Family::ALL.map(|family| frontend.at(family, transport))).collect()
}

/// Asks on connections that stay open, and in conversations that go on, all the time.
fn converse(ns: &Netns, stop: &AtomicBool, asked: &AtomicUsize) -> Vec<String> {
    ns.enter().unwrap();
    let (tcp, udp) = (targets(Transport::Tcp), targets(Transport::Udp));
    let tcp = tcp.iter().cycle().take(CONNECTIONS);
    let mut connections: Vec<_> = tcp.map(|dst| (*dst, Connection::open(*dst, 0, TIMEOUT).unwrap())).collect();
    let udp = udp.iter().cycle().take(CONVERSATIONS);
    let mut conversations: Vec<_> = udp.map(|dst| (*dst, UdpClient::open(*dst, 0, TIMEOUT).unwrap())).collect();
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
        let begun = Instant::now();
        for (dst, connection) in &mut connections {
            failures.extend(connection.ask().err().map(|failure| format!("long connection to {dst}: {failure}")));
        }
        for (dst, conversation) in &mut conversations {
            failures.extend(conversation.ask().err().map(|failure| format!("conversation with {dst}: {failure}")));
        }
        asked.fetch_add(CONNECTIONS + CONVERSATIONS, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(250).saturating_sub(begun.elapsed()));
    }
    failures
}

/// Waits until the maps have these sizes and the former ones are gone.
fn wait_upgraded(agent: &mut Agent, doubled: bool) -> Result<()> {
    agent.wait_synced(PATIENCE)?;
    let deadline = Instant::now() + PATIENCE;
    let (flows, sockets) = (SIZES[0].1 << u32::from(doubled), SIZES[3].1 << u32::from(doubled));
    loop {
        let status = agent.json(&["status"]).unwrap_or_default();
        let capacity = |map: &str| {
            let maps = status["maps"].as_array().into_iter().flatten();
            maps.filter(|found| found["map"] == map).find_map(|found| found["capacity"].as_u64())
        };
        let has = |map, entries: u32| capacity(map) == Some(u64::from(entries));
        if has("FLOWS4", flows) && has("SOCKETS6", sockets) && !agent.pin_path().join("former").exists() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not upgraded: {}\n{}", status["maps"], agent.log_tail());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn other_sizes_of_maps_lose_no_connection_wherever_the_successor_is_stopped() {
    let mut node = Node::with(xtask::lab::LabOptions::default(), &crate::fixture::all(), &[]);
    let mut first = Agent::beside(&node.lab, "first.log", options(&node, false));
    first.spawn().unwrap();
    wait_upgraded(&mut first, false).unwrap();
    node.agent = first;
    let before: Value = node.agent.json(&["services"]).unwrap()[0]["name"].clone();
    let namespaces: Vec<_> = node.clients().iter().map(|client| client.ns.clone()).collect();
    let tcp = targets(Transport::Tcp);
    let (load, asked) = (Load::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let workers = load.start(scope, &namespaces, &tcp);
        let talkers: Vec<_> = namespaces.iter().map(|ns| scope.spawn(|| converse(ns, &load.stop, &asked))).collect();
        thread::sleep(Duration::from_secs(2));
        let mut random = fastrand::Rng::with_seed(7);
        let mut upgraded = Ok(());
        for round in 1..=upgrades() {
            let doubled = round % 2 == 1;
            let log = format!("upgrade-{round}.log");
            let mut successor = Agent::beside(&node.lab, &log, options(&node, doubled));
            successor.spawn().unwrap();
            // Every other one is stopped at a random moment, and started again.
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(random.u64(..2_500)));
                successor.kill9().unwrap();
                successor.spawn().unwrap();
            }
            upgraded = wait_upgraded(&mut successor, doubled);
            node.agent = successor;
            if upgraded.is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        load.stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> = workers.into_iter().chain(talkers).flat_map(|worker| worker.join().unwrap()).collect();
        upgraded.unwrap();
        let done = (load.done.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
        assert!(failures.is_empty(), "{done:?} worked, these did not: {failures:#?}");
        eprintln!("{} new connections, {} questions", done.0, done.1);
    });
    assert_eq!(node.agent.json(&["services"]).unwrap()[0]["name"], before);
}
