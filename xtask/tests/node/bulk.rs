//! Bulk TCP through a frontend with offloads on: whole, without checksum errors, as fast as plain routing.

use std::net::SocketAddr;
use std::time::Duration;

use xtask::lab::probe::{TIMEOUT, Transport};
use xtask::lab::{Family, Netns};

use crate::fixture::{ALL, CLUSTER_IP, Node};

const BYTES: u64 = 64 << 20;
const ROUNDS: usize = 5;
/// Throughput through the frontend over that of direct routing.
const RATIO: f64 = 0.9;
/// What no single pair of client and Pod may fall below: with a few rounds each, single pairs swing.
const WORST: f64 = 0.6;

/// Segments that this namespace's TCP has found damaged.
fn checksum_errors(ns: &Netns) -> u64 {
    let snmp = ns.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?)).unwrap();
    let rows: Vec<Vec<&str>> = snmp
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp:"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [names, values] = rows.as_slice() else { panic!("unexpected statistics: {snmp}") };
    let at = names.iter().position(|name| *name == "InCsumErrors").unwrap();
    values[at].parse().unwrap()
}

fn transfer(ns: &Netns, dst: SocketAddr, download: bool) -> Duration {
    let mut connection = ns.connect(dst, 0, TIMEOUT).unwrap();
    let moved = if download { connection.download(BYTES) } else { connection.upload(BYTES) };
    moved.unwrap_or_else(|err| panic!("{} <-> {dst}: {err}", ns.name()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Throughput through the frontend over that of direct routing: the median of interleaved rounds.
fn ratio_of(ns: &Netns, frontend: SocketAddr, direct: SocketAddr, download: bool) -> f64 {
    let (mut through, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        through.push(transfer(ns, frontend, download));
        plain.push(transfer(ns, direct, download));
    }
    median(plain).as_secs_f64() / median(through).as_secs_f64()
}

#[test]
fn bulk_through_a_frontend_is_as_fast_as_direct_routing() {
    let node = Node::start();
    let mut ratios = Vec::new();
    for name in ["rt2", "br2", "remote1"] {
        let pod = node.lab.pod(name).unwrap();
        node.change(|manifests| manifests.ready(ALL, [pod]).unwrap());
        for client in node.clients() {
            for (family, download) in [(Family::V4, false), (Family::V6, true)] {
                let way = format!("{} {} {name} {}", client.name, if download { "<-" } else { "->" }, family.name());
                let frontend = CLUSTER_IP.at(family, Transport::Tcp);
                let direct = SocketAddr::new(pod.addr.of(family), Transport::Tcp.pod_port());
                let ratio = ratio_of(client.ns, frontend, direct, download);
                eprintln!("{way}: {ratio:.2} of direct routing");
                // A Pod on the client's own bridge is reached directly without any routing: no like to compare with.
                let same_bridge = client.name == "br1" && name == "br2";
                if !same_bridge {
                    assert!(ratio >= WORST, "{way}: {ratio:.2} of direct routing");
                    ratios.push(ratio);
                }
            }
            assert_eq!(checksum_errors(client.ns), 0, "{}: damaged segments", client.name);
        }
        assert_eq!(checksum_errors(&pod.ns), 0, "{name}: damaged segments");
    }
    ratios.sort_by(f64::total_cmp);
    let typical = ratios[ratios.len() / 2];
    assert!(typical >= RATIO, "{typical:.2} of direct routing over {} pairs: {ratios:.2?}", ratios.len());
}
