//! Least connections, at sockets and in packets: a slow Pod, weights, and what counts as open whatever becomes of the agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::probe::{Connection, TIMEOUT, Transport};
use xtask::lab::{Family, Netns, ServiceSpec};

use crate::algorithms::{ALGORITHM, WEIGHTS, set};
use crate::fixture::{CLUSTER_IP, FRONTENDS, all};
use crate::sockets::SocketNode;

/// The Pod whose connections take long.
const SLOW: &str = "br2";
/// How long.
const HELD: Duration = Duration::from_millis(700);
/// Between two connections.
const PAUSE: Duration = Duration::from_millis(8);

/// The frontend of sockets, and that of packets.
fn frontends(node: &SocketNode) -> [(Netns, SocketAddr); 2] {
    [
        (node.host(), CLUSTER_IP.at(Family::V4, Transport::Tcp)),
        (node.node.lab.client.clone(), FRONTENDS[2].at(Family::V4, Transport::Tcp)),
    ]
}

/// How many connections the slow Pod has at a time, on average, after as long as one lasts.
fn at_the_slow_one(ns: &Netns, dst: SocketAddr) -> f64 {
    ns.run(|| {
        let begun = Instant::now();
        let (mut held, mut sum, mut looks) = (Vec::new(), 0_u32, 0_u32);
        while begun.elapsed() < 3 * HELD {
            let mut connection = Connection::open(dst, 0, TIMEOUT)?;
            if connection.ask()?.pod == SLOW {
                held.push((Instant::now(), connection));
            }
            held.retain(|(since, _)| since.elapsed() < HELD);
            if begun.elapsed() > HELD {
                (sum, looks) = (sum + u32::try_from(held.len())?, looks + 1);
            }
            thread::sleep(PAUSE);
        }
        Ok(f64::from(sum) / f64::from(looks.max(1)))
    })
    .unwrap()
}

/// Connections that stay open, and how many each Pod has of them.
fn open(ns: &Netns, dst: SocketAddr, count: usize) -> (Vec<Connection>, BTreeMap<String, usize>) {
    let mut pods = BTreeMap::new();
    let connections = (0..count).map(|_| {
        let mut connection = ns.connect(dst, 0, TIMEOUT).unwrap();
        *pods.entry(connection.ask().unwrap().pod).or_insert(0) += 1;
        connection
    });
    (connections.collect(), pods)
}

/// What the algorithm goes by, by backend id: the numbers in the kernel.
fn counted(node: &SocketNode, dst: SocketAddr) -> BTreeMap<u64, u64> {
    let to = dst.to_string();
    let answer = node.node.agent.json(&["trace", "--from", "node", "--to", &to]).unwrap();
    let step = |step: &Value| {
        let id = step["asked"].as_str()?.strip_prefix("open connections of backend id ")?.parse().ok()?;
        Some((id, step["found"].as_str()?.parse().ok()?))
    };
    answer["steps"].as_array().unwrap().iter().filter_map(step).collect()
}

/// What the tables of flows and sockets hold of these backends.
fn held(node: &SocketNode, ids: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let rows = node.node.agent.json(&["backends"]).unwrap();
    let rows = rows.as_array().unwrap().iter();
    let rows = rows.filter(|row| row["family"] == "IPv4");
    let rows = rows.map(|row| (row["id"].as_u64().unwrap(), row["open"].as_u64().unwrap()));
    rows.filter(|(id, _)| ids.contains_key(id)).collect()
}

/// Waits until the kernel's numbers are those of the tables, and their sum this one.
#[track_caller]
fn counts_are_true(node: &SocketNode, dst: SocketAddr, sum: u64, within: Duration) {
    let begun = Instant::now();
    loop {
        let took = begun.elapsed();
        let counted = counted(node, dst);
        let held = held(node, &counted);
        if counted == held && counted.values().sum::<u64>() == sum {
            return;
        }
        assert!(
            took < within,
            "{sum} are open; after {took:?} the kernel counts {counted:?}, the tables have {held:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn least_connections_spare_a_slow_pod_at_sockets_and_in_packets() {
    let node = SocketNode::start();
    let random = frontends(&node).map(|(ns, dst)| at_the_slow_one(&ns, dst));
    set(&node, &[(ALGORITHM, "lc")]);
    let least = frontends(&node).map(|(ns, dst)| at_the_slow_one(&ns, dst));
    eprintln!("open connections at the slow Pod (sockets, packets): {random:.1?} by chance, {least:.1?} by the fewest");
    for (random, least) in random.into_iter().zip(least) {
        assert!(least * 5.0 <= random, "{random} by chance, {least} by the fewest");
    }

    // Long connections: as many as the weights say.
    set(&node, &[(ALGORITHM, "wlc"), (WEIGHTS, "br1=7,br2=2,rt1=1,rt2=0,remote1=0")]);
    counts_are_true(&node, CLUSTER_IP.at(Family::V4, Transport::Tcp), 0, Duration::from_secs(5));
    let mut all = Vec::new();
    for (round, (ns, dst)) in (1..).zip(frontends(&node)) {
        let (connections, pods) = open(&ns, dst, 100);
        all.push(connections);
        let shares = [("br1", 70), ("br2", 20), ("rt1", 10)].map(|(pod, share)| (pod.to_owned(), share));
        let near = |(pod, share): &(String, usize)| pods.get(pod).is_some_and(|got| got.abs_diff(*share) <= 3);
        assert!(pods.len() == 3 && shares.iter().all(near), "round {round}: {pods:?}");
    }
}

#[test]
fn open_connections_are_counted_whatever_becomes_of_them_and_of_the_agent() {
    let mut node = SocketNode::start();
    // What began before the algorithm counts: all of it is at one Pod.
    set(&node, &[(WEIGHTS, "br1=1,br2=0,rt1=0,rt2=0,remote1=0")]);
    let [(host, of_sockets), (client, of_packets)] = frontends(&node);
    let mut early = [open(&host, of_sockets, 20).0, open(&client, of_packets, 20).0];
    let service = ServiceSpec { annotations: vec![(ALGORITHM, "least-connections")], ..all() };
    node.node.change(|manifests| manifests.service(&service).unwrap());
    counts_are_true(&node, of_sockets, 40, Duration::from_secs(2));
    let (mut late, pods) = open(&host, of_sockets, 20);
    assert!(!pods.contains_key("br1"), "{pods:?}");
    let (of_client, pods) = open(&client, of_packets, 20);
    assert!(!pods.contains_key("br1"), "{pods:?}");
    late.extend(of_client);
    counts_are_true(&node, of_sockets, 80, Duration::from_secs(2));

    // Without an agent the programs count; it finds what they could not see, or were not asked to.
    node.node.agent.kill9().unwrap();
    late.truncate(10);
    let (while_dead, _) = open(&client, of_packets, 15);
    early[0].clear();
    early[1].clear();
    node.node.agent.restart().unwrap();
    counts_are_true(&node, of_sockets, 25, Duration::from_secs(1));

    // A connection that its peer resets while its process still has it.
    let kept = host.run(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.connect(&of_sockets.into())?;
        Ok(socket)
    });
    let kept = kept.unwrap();
    counts_are_true(&node, of_sockets, 26, Duration::from_secs(2));
    let port = format!(":{}", kept.local_addr().unwrap().as_socket().unwrap().port());
    for pod in node.node.lab.pods() {
        pod.ns.command("ss", &["-K", "-t", "dport", "=", &port]).unwrap();
    }
    counts_are_true(&node, of_sockets, 25, Duration::from_secs(2));
    drop((kept, while_dead, late));
    counts_are_true(&node, of_sockets, 0, Duration::from_secs(2));
}
