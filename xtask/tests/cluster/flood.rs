//! A thousand `EndpointSlice` updates a second: the agent keeps up, ends at the truth, and rests afterwards.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::apiserver::Encoded;
use xtask::lab::Family;

use crate::fixture::{Node, differences};
use crate::objects::{self, endpoint, service, slice};

const SERVICES: u32 = 100;
const PER_SECOND: u32 = 1000;
/// How long, in seconds; `SLUICE_FLOOD_SECS` says otherwise.
const FLOOD_SECS: u64 = 15;
const WRITERS: u32 = 16;
/// States that each slice goes through.
const ROUNDS: u32 = 50;
/// From the end of the flood to maps that hold the truth.
const CONVERGED_WITHIN: Duration = Duration::from_secs(1);
/// Of one core, once all is quiet.
const RESTING: f64 = 0.2;
/// What the flood may add to the agent's memory.
const GROWTH_KB: u64 = 32 * 1024;

/// One of ever changing states of a Service's slice, with its key in the store.
fn stored_slice(number: u32, round: u32) -> (String, Value) {
    let endpoints: Vec<Value> = (1..=1 + (round + number) % 8)
        .map(|n| endpoint(&format!("10.244.2.{}", 1 + (n * 7 + round) % 250), "node2"))
        .collect();
    let name = format!("s{number}");
    let mut slice = slice(&name, Family::V4, &endpoints);
    slice["metadata"]["uid"] = format!("00000000-0000-4000-8000-{number:012}").into();
    slice["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    (objects::slice_key(&name), slice)
}

fn flood_length() -> Duration {
    let secs = std::env::var("SLUICE_FLOOD_SECS").map_or(FLOOD_SECS, |text| text.parse().unwrap());
    Duration::from_secs(secs)
}

/// Writes one writer's share, on time. The store is written to directly: the API takes fewer on a small machine, and
/// tells its watchers all the same. On a machine that cannot take as many the flood is thinner, not longer.
fn write(node: &Node, states: &[Encoded], writer: u32, begin: Instant, end: Instant) -> u32 {
    let store = node.cluster.store();
    let mut made = 0;
    for n in (writer..).step_by(WRITERS as usize) {
        let due = begin + Duration::from_secs(1) * n / PER_SECOND;
        if due.max(Instant::now()) >= end {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        store.put(&states[(n % (SERVICES * ROUNDS)) as usize]).unwrap();
        made += 1;
    }
    made
}

#[test]
fn a_flood_of_endpoint_slices_is_followed_and_leaves_no_work_behind() {
    let node = &Node::start();
    let ipv4 = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
    node.api.create_all((0..SERVICES).map(|n| service(&format!("s{n}"), &ipv4)));
    node.api.create_all((0..SERVICES).map(|n| stored_slice(n, 0).1));
    node.converge();
    let pid = node.agent.pid().unwrap();
    let before = memory_kb(pid, "VmRSS");
    // The peak from here on: the start's, with all programs in memory, is another matter (proc(5), clear_refs).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();

    let states: Vec<Encoded> = (0..SERVICES * ROUNDS)
        .map(|n| stored_slice(n % SERVICES, n / SERVICES))
        .map(|(key, slice)| Encoded::new(&key, &slice))
        .collect();
    let (states, flood, seen_before, cpu_before) = (&states, flood_length(), seen_by_the_agent(), cpu_time(pid));

    let begin = Instant::now();
    let made: u32 = thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(node, states, writer, begin, begin + flood))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let end = Instant::now();
    let wanted = node.wanted();
    let converged = loop {
        let asked = end.elapsed();
        let served = node.served();
        if served == wanted {
            break asked;
        }
        assert!(asked < CONVERGED_WITHIN, "after {asked:?}:\n{}", differences(&served, &wanted));
    };

    let cpu = cpu_time(pid);
    let busy = cpu.saturating_sub(cpu_before).as_secs_f64() / begin.elapsed().as_secs_f64();
    let seen = seen_by_the_agent() - seen_before;
    let quiet = Instant::now();
    thread::sleep(Duration::from_secs(3));
    let share = cpu_time(pid).saturating_sub(cpu).as_secs_f64() / quiet.elapsed().as_secs_f64();
    let peak = memory_kb(pid, "VmHWM");
    eprintln!("{made} updates in {flood:?}, {seen} seen by the agent, with {busy:.3} of a core");
    eprintln!("converged {converged:?} after the flood; then {share:.3} of a core; memory {before} kB, peak {peak} kB");
    // What the agent missed it has read in a new list: that is no flood.
    assert!(seen >= u64::from(made), "{made} updates, and {seen} were seen");
    assert!(share < RESTING, "{share} of a core without work");
    assert!(peak < before + GROWTH_KB, "memory went from {before} kB to {peak} kB");
}

/// Changes of slices that have reached the agent.
fn seen_by_the_agent() -> u64 {
    // This thread lives on the node.
    let mut metrics = TcpStream::connect((Ipv4Addr::LOCALHOST, 10_249)).unwrap();
    metrics.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    metrics.read_to_string(&mut text).unwrap();
    let series = "kubeproxy_sync_proxy_rules_endpoint_changes_total ";
    text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse().unwrap()
}

fn memory_kb(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time. Linux counts a hundred ticks a second for user space.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().unwrap())).sum()
}
