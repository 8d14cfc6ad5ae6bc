//! Network programming latency: from the API's word that a slice is written to the first packet that follows it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::lab::Family;
use xtask::lab::SERVICE_DNS;
use xtask::lab::probe::Transport;

use crate::fixture::Node;
use crate::objects::{self, pods, service};

const SERVICES: u32 = 10_000;
const ROUNDS: usize = 200;
const MEDIAN: Duration = Duration::from_millis(20);
const P99: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_packet_follows_a_slice_within_milliseconds_beside_ten_thousand_services() {
    let mut node = Node::prepare();
    let ipv4 = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
    let begin = Instant::now();
    let objects: Vec<_> = (0..SERVICES).flat_map(objects::stored).collect();
    node.cluster.store().put_all(&objects).unwrap();
    wait_listed(&node);
    eprintln!("{SERVICES} Services stored in {:?}", begin.elapsed());
    node.api.apply(&service("probed", &ipv4));
    node.api.apply(&pods("probed", [node.lab.pod("br1").unwrap()])[0]);
    let begin = Instant::now();
    node.agent.spawn().unwrap();
    node.agent.wait_synced(Duration::from_secs(60)).unwrap();
    eprintln!("agent ready after {:?}", begin.elapsed());
    let services = node.agent.json(&["status"]).unwrap()["services"].as_u64();
    assert!(services > Some(u64::from(SERVICES)), "{services:?}");

    let dst = node.frontend("probed", Family::V4, SERVICE_DNS);
    let client = &node.lab.pod("rt1").unwrap().ns;
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let (wanted, wants) = mpsc::channel::<String>();
        let (seen, answered) = mpsc::channel();
        scope.spawn(move || {
            client.enter().unwrap();
            for pod in wants {
                seen.send(first_answer_of(&pod, dst)).unwrap();
            }
        });
        (0..ROUNDS)
            .map(|round| {
                let pod = node.lab.pod(["rt2", "br2"][round % 2]).unwrap();
                let slice = &pods("probed", [pod])[0];
                node.api.replace(slice);
                let acknowledged = Instant::now();
                wanted.send(pod.name.clone()).unwrap();
                answered.recv().unwrap().saturating_duration_since(acknowledged)
            })
            .collect()
    });
    latencies.sort();
    let (median, p99) = (latencies[ROUNDS / 2], latencies[(ROUNDS * 99).div_ceil(100) - 1]);
    eprintln!("median {median:?}, p99 {p99:?}, most {:?}", latencies[ROUNDS - 1]);
    assert!(median < MEDIAN, "median {median:?}: {latencies:?}");
    assert!(p99 < P99, "p99 {p99:?}: {latencies:?}");
}

/// Asks, each time from a new port, until this Pod answers; when the question was sent.
fn first_answer_of(pod: &str, dst: std::net::SocketAddr) -> Instant {
    let begin = Instant::now();
    loop {
        let sent = Instant::now();
        let answer = Transport::Udp.ask_once(dst, 0, Duration::from_millis(200));
        if answer.as_ref().is_ok_and(|answer| answer.pod == pod) {
            return sent;
        }
        assert!(begin.elapsed() < PATIENCE, "{pod} does not answer: {answer:?}");
    }
}

/// The API server follows its store.
fn wait_listed(node: &Node) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let last = format!("--raw=/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s{}-ipv4", SERVICES - 1);
    while node.cluster.kubectl(&["get", &last]).is_err() {
        assert!(Instant::now() < deadline, "the API server does not see what is in its store");
        thread::sleep(Duration::from_millis(100));
    }
}
