//! Ten thousand Services of ten endpoints each, with the agent as users run it: optimised.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use xtask::build;
use xtask::lab::probe::Transport;
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests};

use crate::fixture::{ALL, CLUSTER_IP, all};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
/// Services in one file of manifests.
const PER_FILE: u32 = 100;

/// From the moment at which the files have been read.
const FULL_STATE: Duration = Duration::from_secs(3);
const ONE_CHANGE: Duration = Duration::from_millis(20);
const MEMORY_KIB: u64 = 100_000_000 / 1024;

fn service_yaml(n: u32) -> String {
    let (high, low) = (1 + n / 250, 1 + n % 250);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{n}\n  namespace: scale\n  labels:\n    app: svc-{n}\n\
         spec:\n  type: ClusterIP\n  clusterIP: 10.96.{high}.{low}\n  clusterIPs:\n  - 10.96.{high}.{low}\n  \
         ports:\n  - name: http\n    protocol: TCP\n    port: 80\n    targetPort: 8080\n  selector:\n    app: svc-{n}\n"
    )
}

fn slice_yaml(n: u32) -> String {
    let endpoints: String = (0..ENDPOINTS)
        .map(|k| {
            let e = n * ENDPOINTS + k;
            let (a, b, c) = (128 + e / 62_500, e / 250 % 250, 1 + e % 250);
            format!(
                "- addresses:\n  - 10.{a}.{b}.{c}\n  conditions:\n    ready: true\n    serving: true\n    \
                 terminating: false\n  nodeName: node-{}\n  targetRef:\n    kind: Pod\n    name: svc-{n}-{k}\n    \
                 namespace: scale\n",
                e % 100
            )
        })
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{n}-abcde\n  namespace: scale\n  \
         labels:\n    kubernetes.io/service-name: svc-{n}\naddressType: IPv4\nports:\n- name: http\n  protocol: TCP\n  \
         port: 8080\nendpoints:\n{endpoints}"
    )
}

pub(crate) fn write_services(dir: &Path) {
    for file in 0..SERVICES / PER_FILE {
        let services = file * PER_FILE..(file + 1) * PER_FILE;
        let text: Vec<String> = services.flat_map(|n| [service_yaml(n), slice_yaml(n)]).collect();
        fs::write(dir.join(format!("scale-{file:03}.yaml")), text.join("---\n")).unwrap();
    }
}

struct Cluster {
    agent: Agent,
    manifests: Manifests,
    lab: Lab,
}

/// A lab with all the manifests and an agent that is not started yet.
fn cluster() -> Cluster {
    let binary = build::agent(true).unwrap();
    let lab = Lab::start(LabOptions::default()).unwrap();
    let manifests = Manifests::of(&lab);
    manifests.service(&all()).unwrap();
    manifests.ready(ALL, lab.pods()).unwrap();
    write_services(manifests.dir());
    let agent = Agent::prepare(&lab, AgentOptions::new(&binary, manifests.dir()));
    Cluster { agent, manifests, lab }
}

/// Service ports, backends and slots in use; what the lab's own Service has is the same in every test.
fn filled(agent: &Agent) -> [u64; 3] {
    let status = agent.json(&["status"]).unwrap();
    let slots = status["maps"].as_array().into_iter().flatten().find(|row| row["map"] == "SLOTS4");
    let used = slots.and_then(|row| row["used"].as_u64());
    [status["services"].as_u64().unwrap(), status["backends"].as_u64().unwrap(), used.unwrap_or(0)]
}

/// The lab's Service: two ports in two families, each in front of five Pods.
const OWN_PORTS: u64 = 4;
const OWN_BACKENDS: u64 = 20;

fn assert_complete(agent: &Agent) {
    let [ports, backends, _] = filled(agent);
    assert_eq!(ports, u64::from(SERVICES) + OWN_PORTS);
    assert_eq!(backends, u64::from(SERVICES * ENDPOINTS) + OWN_BACKENDS);
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// When the agent last said this, as the time of day.
fn said(agent: &Agent, what: &str) -> Duration {
    let log = agent.log();
    let line = log.lines().rev().find(|line| line.contains(what)).unwrap();
    let (_, time) = line.split_once('T').unwrap();
    let mut parts = time.split(['Z', ':']).map(|part| part.parse::<f64>().unwrap_or_default());
    let mut next = || parts.next().unwrap();
    Duration::from_secs_f64(next() * 3600.0 + next() * 60.0 + next())
}

/// Time between two things that the agent said, also over midnight.
fn between(agent: &Agent, from: &str, to: &str) -> Duration {
    let (from, to) = (said(agent, from), said(agent, to));
    to.checked_sub(from).unwrap_or_else(|| to + Duration::from_secs(24 * 3600) - from)
}

/// `VmRSS` or `VmHWM` of the agent.
fn memory_kib(agent: &Agent, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// When the agent last wrote.
fn updated(agent: &Agent) -> Duration {
    Duration::from_nanos(agent.json(&["status"]).unwrap()["agent"]["updated_ns"].as_u64().unwrap())
}

/// A Service and its endpoints in a file of their own, replaced in one step.
fn one_service(cluster: &Cluster, pod: &str) {
    let pod = cluster.lab.pod(pod).unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "one", "namespace": "lab"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"name": "http", "port": 80}]},
    });
    let slice: Value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "one-1", "namespace": "lab", "labels": {"kubernetes.io/service-name": "one"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [pod.addr.v4.to_string()], "nodeName": pod.cni.node()}],
    });
    cluster.manifests.put("one.json", &json!({"kind": "List", "items": [service, slice]})).unwrap();
}

/// Changes the only endpoint of a Service; the time until the agent has written it.
fn change_one(cluster: &Cluster, pod: &str) -> Duration {
    let before = updated(&cluster.agent);
    let changed = now();
    one_service(cluster, pod);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let written = updated(&cluster.agent);
        if written != before {
            return written.saturating_sub(changed);
        }
        assert!(Instant::now() < deadline, "the agent wrote nothing within 5 s");
    }
}

#[test]
fn ten_thousand_services_are_complete_soon_small_and_quick_to_change() {
    let mut cluster = cluster();
    one_service(&cluster, "br2");
    cluster.agent.spawn().unwrap();
    cluster.agent.wait_synced(Duration::from_secs(60)).unwrap();
    let took = between(&cluster.agent, "manifests are read", "first full state");
    let whole = between(&cluster.agent, "starting", "first full state");
    eprintln!("{took:?} from the files read, {whole:?} from the start");
    let [ports, backends, _] = filled(&cluster.agent);
    assert_eq!(ports, u64::from(SERVICES) + OWN_PORTS + 1);
    assert_eq!(backends, u64::from(SERVICES * ENDPOINTS) + OWN_BACKENDS + 1);

    // The agent gives back what it only needed to get there with its next housekeeping.
    thread::sleep(Duration::from_secs(1));
    let resident = memory_kib(&cluster.agent, "VmRSS");
    eprintln!("{resident} KiB resident, {} KiB at most", memory_kib(&cluster.agent, "VmHWM"));
    assert!(resident < MEMORY_KIB, "{resident} KiB");

    let one = SocketAddr::from(([10, 96, 0, 77], 80));
    let mut latencies = Vec::new();
    for pod in ["br1", "rt1", "remote1", "br2", "rt2"].into_iter().cycle().take(20) {
        latencies.push(change_one(&cluster, pod));
        assert_eq!(cluster.lab.client.ask(Transport::Tcp, one).unwrap().pod, pod);
    }
    latencies.sort_unstable();
    eprintln!("one endpoint changed: {latencies:?}");
    let resident = memory_kib(&cluster.agent, "VmRSS");
    assert!(resident < MEMORY_KIB, "{resident} KiB after some changes");
    // Two in twenty may have met a busy processor.
    assert!(latencies[17] <= ONE_CHANGE, "{latencies:?}");
    assert!(took <= FULL_STATE, "{took:?} from the files read to the full state");
    for family in Family::ALL {
        cluster.lab.client.ask(Transport::Tcp, CLUSTER_IP.at(family, Transport::Tcp)).unwrap();
    }
}

#[test]
fn an_agent_killed_at_any_moment_of_a_large_sync_leaves_what_its_successor_completes() {
    let mut cluster = cluster();
    for millis in [300, 700, 1000, 1300, 1700, 2200] {
        cluster.agent.spawn().unwrap();
        thread::sleep(Duration::from_millis(millis));
        cluster.agent.kill9().unwrap();
    }
    cluster.agent.spawn().unwrap();
    cluster.agent.wait_synced(Duration::from_secs(60)).unwrap();
    assert_complete(&cluster.agent);
    let complete = filled(&cluster.agent);

    // Half of it goes, half of that is killed, and all of it comes back.
    let file = |n: u32| cluster.manifests.dir().join(format!("scale-{n:03}.yaml"));
    for n in 0..SERVICES / PER_FILE / 2 {
        fs::remove_file(file(n)).unwrap();
    }
    thread::sleep(Duration::from_millis(60));
    cluster.agent.kill9().unwrap();
    write_services(cluster.manifests.dir());
    cluster.agent.spawn().unwrap();
    cluster.agent.wait_synced(Duration::from_secs(60)).unwrap();
    assert_complete(&cluster.agent);
    assert_eq!(filled(&cluster.agent), complete, "something was left behind");
    for family in Family::ALL {
        cluster.lab.client.ask(Transport::Tcp, CLUSTER_IP.at(family, Transport::Tcp)).unwrap();
    }
}
