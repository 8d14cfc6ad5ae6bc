//! One of ten Pods resets connections: what that costs the others' clients, and when it comes back.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::probe::{self, Transport};
use xtask::lab::{Cni, Family, Netns, Pod, ServiceSpec};

use crate::fixture::{CLUSTER_IP, FRONTENDS, all};
use crate::sockets::{SocketNode, reachable};

const EJECTION: &str = "sluice-lb.github.io/outlier-ejection";
/// The Pod that resets.
const BAD: &str = "br2";
/// The promise.
const SOON: Duration = Duration::from_secs(10);

/// Ten Pods on this node; the Service judges them.
fn ten(value: &'static str) -> SocketNode {
    let mut node = SocketNode::start();
    for n in node.node.lab.pods().iter().filter(|pod| pod.cni != Cni::Macvlan).count()..10 {
        node.node.lab.add_pod(&format!("more{n}"), Cni::Bridge).unwrap();
    }
    let service = ServiceSpec { annotations: vec![(EJECTION, value)], ..all() };
    node.node.change(|manifests| {
        manifests.service(&service).unwrap();
        manifests.ready(&service.name, reachable(&node.node.lab)).unwrap();
    });
    node
}

fn states(node: &SocketNode) -> Vec<(String, String)> {
    let rows = node.node.agent.json(&["backends"]).unwrap();
    let row = |row: &serde_json::Value| Some((row["address"].as_str()?.to_owned(), row["rest"].as_str()?.to_owned()));
    rows.as_array().unwrap().iter().filter_map(row).collect()
}

fn metric(node: &SocketNode, name: &str) -> f64 {
    let get = || Ok(ureq::get("http://127.0.0.1:10249/metrics").call()?.body_mut().read_to_string()?);
    let text = node.node.lab.node1.run(get).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap()
}

fn pod<'a>(node: &'a SocketNode, name: &str) -> &'a Pod {
    node.node.lab.pod(name).unwrap()
}

/// Asks for so long: how many connections there were, and how many of them the bad one got (it answered or failed them).
fn share(ns: &Netns, dst: SocketAddr, time: Duration) -> (usize, usize) {
    let (until, mut all, mut bad) = (Instant::now() + time, 0, 0);
    while Instant::now() < until {
        all += 1;
        bad += usize::from(ns.ask(Transport::Tcp, dst).map_or(true, |answer| answer.pod == BAD));
        thread::sleep(Duration::from_millis(3));
    }
    (all, bad)
}

fn share_falls(ns: &Netns, dst: SocketAddr) {
    let begun = Instant::now();
    loop {
        let (all, bad) = share(ns, dst, Duration::from_secs(1));
        assert!(all > 50, "{all} connections in a second are too few to judge");
        if bad * 100 < all {
            break;
        }
        assert!(begun.elapsed() < SOON, "{dst}: {bad} of {all} after {SOON:?}");
    }
    let (all, bad) = share(ns, dst, Duration::from_secs(3));
    assert!(bad * 100 < all, "{dst}: {bad} of {all} in the time of its rest");
}

fn comes_back(ns: &Netns, dst: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (all, bad) = share(ns, dst, Duration::from_secs(1));
        if bad * 20 > all {
            return;
        }
        assert!(Instant::now() < deadline, "{dst}: {bad} of {all}, it does not come back");
    }
}

/// A client that resets its own connections: before it has said anything, and in the middle.
fn resets_its_own(ns: &Netns, dst: SocketAddr) {
    ns.run(|| {
        for n in 0..300 {
            let mut stream = TcpStream::connect(dst)?;
            if n % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\n")?;
            }
            probe::reset(stream);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_pod_that_resets_every_second_connection_rests_until_it_behaves_and_clients_that_reset_eject_nobody() {
    let node = ten("on");
    let (outside, host) = (node.node.lab.client.clone(), node.host());
    let of_packets = FRONTENDS[1].at(Family::V4, Transport::Tcp);
    let of_sockets = CLUSTER_IP.at(Family::V6, Transport::Tcp);
    resets_its_own(&outside, of_packets);
    resets_its_own(&host, of_sockets);
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!((states(&node), metric(&node, "sluice_backend_ejections_total ")), (vec![], 0.0));

    pod(&node, BAD).reset_each(2);
    share_falls(&outside, of_packets);
    let addr = pod(&node, BAD).addr.of(Family::V4).to_string();
    let resting = states(&node);
    assert!(resting.len() == 1 && resting[0].0.contains(&addr) && resting[0].1 == "ejected", "{resting:?}");
    let text = node.node.agent.cli(&["backends"]).unwrap();
    assert!(text.lines().any(|line| line.contains(&addr) && line.contains("ejected")), "{text}");
    let why = node.node.agent.cli(&["explain", "lab/all"]).unwrap();
    assert!(why.contains("new connections pass it over: ejected"), "{why}");
    assert!(node.node.agent.log().contains("BackendEjected"));
    assert!(metric(&node, "sluice_backend_ejections_total ") >= 1.0);

    pod(&node, BAD).reset_each(0);
    comes_back(&outside, of_packets);
    assert!(node.node.agent.log().contains("BackendReadmitted") && states(&node).is_empty());
}

#[test]
fn a_pod_that_refuses_rests_for_sockets_too_and_mistakes_are_told() {
    let mut node = ten("window=3s,least=5");
    let (host, dst) = (node.host(), CLUSTER_IP.at(Family::V4, Transport::Tcp));
    node.node.lab.pod_mut(BAD).unwrap().stop_serving();
    share_falls(&host, dst);
    node.node.lab.pod_mut(BAD).unwrap().serve().unwrap();
    comes_back(&host, dst);

    let service = ServiceSpec { annotations: vec![(EJECTION, "window=0s")], ..all() };
    node.node.change(|manifests| manifests.service(&service).unwrap());
    let deadline = Instant::now() + Duration::from_secs(5);
    while !node.node.agent.cli(&["services", "-o", "json"]).unwrap().contains("BadEjection") {
        assert!(Instant::now() < deadline, "no refusal");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(states(&node).is_empty());
    host.ask(Transport::Tcp, dst).unwrap();
}
