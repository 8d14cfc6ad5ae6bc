//! Algorithms that change under traffic: at sockets, and in packets of Pods and of clients outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use xtask::lab::probe::{Connection, TIMEOUT, Transport};
use xtask::lab::{Netns, ServiceSpec};

use crate::fixture::{FRONTENDS, all, each_way};
use crate::load::Load;
use crate::sockets::SocketNode;

pub(crate) const ALGORITHM: &str = "sluice-lb.github.io/algorithm";
pub(crate) const WEIGHTS: &str = "sluice-lb.github.io/weights";
const TABLE_SIZE: &str = "sluice-lb.github.io/maglev-table-size";

/// The agent has written and reported all that it has to.
const REST: Duration = Duration::from_millis(500);

/// Gives the Service these annotations, and waits until the agent has come to rest: what is left of a former change may be
/// written after it, too.
pub(crate) fn set(node: &SocketNode, annotations: &[(&'static str, &'static str)]) {
    let service = ServiceSpec { annotations: annotations.to_vec(), ..all() };
    node.node.change(|manifests| manifests.service(&service).unwrap());
    let updated = || node.node.agent.json(&["status"]).unwrap()["agent"]["updated_ns"].as_u64();
    let mut before = None;
    while before != updated() {
        before = updated();
        thread::sleep(REST);
    }
}

/// How many of 60 new connections each Pod gets.
fn spread(ns: &Netns, transport: Transport, dst: SocketAddr) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    for answer in ns.ask_many(transport, dst, 60).unwrap() {
        *pods.entry(answer.pod).or_insert(0) += 1;
    }
    pods
}

/// What is shown of the Service: its algorithms, and the reasons of refusals.
fn shown(node: &SocketNode) -> (BTreeSet<String>, BTreeSet<String>) {
    let rows = node.node.agent.json(&["services"]).unwrap();
    let rows = rows.as_array().unwrap();
    let refusals = rows.iter().flat_map(|row| row["refusals"].as_array().unwrap());
    (
        rows.iter().map(|row| row["algorithm"].as_str().unwrap().to_owned()).collect(),
        refusals.map(|row| row["reason"].as_str().unwrap().to_owned()).collect(),
    )
}

#[test]
fn algorithms_change_under_traffic_and_move_no_connection() {
    let node = SocketNode::start();
    // The node's own processes by sockets; a Pod, and a client outside, by packets.
    let namespaces = [node.host(), node.node.lab.pod("br1").unwrap().ns.clone(), node.node.lab.client.clone()];
    let targets: Vec<SocketAddr> = FRONTENDS[1..]
        .iter()
        .flat_map(|frontend| each_way().map(|(family, _)| frontend.at(family, Transport::Tcp)))
        .collect();
    let mut open: Vec<(Connection, String)> = Vec::new();
    for (ns, dst) in namespaces.iter().flat_map(|ns| targets.iter().map(move |dst| (ns, dst))) {
        let mut connection = ns.connect(*dst, 0, TIMEOUT).unwrap();
        let pod = connection.ask().unwrap().pod;
        open.push((connection, pod));
    }
    let load = Load::default();
    thread::scope(|scope| {
        let workers = load.start(scope, &namespaces, &targets);
        let steps: [(&[(&'static str, &'static str)], &str); 7] = [
            (&[(ALGORITHM, "round-robin")], "round-robin"),
            (&[(ALGORITHM, "maglev"), (TABLE_SIZE, "251")], "maglev"),
            (&[(ALGORITHM, "source-hash"), (WEIGHTS, "br1=3,br2=0")], "source-hash"),
            (&[(ALGORITHM, "maglev"), (WEIGHTS, "br1=3")], "maglev"),
            (&[(ALGORITHM, "wlc"), (WEIGHTS, "br1=2")], "least-connections"),
            (&[(ALGORITHM, "wrr"), (WEIGHTS, "br1=7,br2=2")], "round-robin"),
            (&[], "random"),
        ];
        for (annotations, algorithm) in steps {
            set(&node, annotations);
            assert_eq!(shown(&node), (BTreeSet::from([algorithm.to_owned()]), BTreeSet::new()));
            thread::sleep(Duration::from_millis(700));
            for (connection, pod) in &mut open {
                assert_eq!(connection.ask().unwrap().pod, *pod, "{algorithm}");
            }
        }
        load.stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        assert!(failures.is_empty(), "of {} connections: {failures:#?}", load.done.load(Ordering::Relaxed));
    });

    // Each algorithm does what it says, in packets and at sockets.
    let everywhere = || namespaces.iter().flat_map(|ns| each_way().map(move |way| (ns, way)));
    set(&node, &[(ALGORITHM, "source-hash")]);
    for (ns, (family, transport)) in everywhere() {
        let pods = spread(ns, transport, FRONTENDS[2].at(family, transport));
        assert_eq!(pods.len(), 1, "{pods:?}");
    }
    set(&node, &[(WEIGHTS, "br1=0")]);
    for (ns, (family, transport)) in everywhere() {
        let pods = spread(ns, transport, FRONTENDS[2].at(family, transport));
        assert!(!pods.contains_key("br1") && pods.len() > 1, "{pods:?}");
    }
    set(&node, &[(ALGORITHM, "maglve"), (WEIGHTS, "br1=4294967296"), (TABLE_SIZE, "1000")]);
    let reasons = ["BadAlgorithm", "BadTableSize", "BadWeights"].map(str::to_owned);
    assert_eq!(shown(&node), (BTreeSet::from(["random".to_owned()]), BTreeSet::from(reasons)));
    for (ns, (family, transport)) in everywhere() {
        assert!(spread(ns, transport, FRONTENDS[2].at(family, transport)).len() > 1);
    }
}
