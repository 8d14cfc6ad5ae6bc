//! A thousand `EndpointSlice` updates a second: the agent keeps up, ends at the truth, and rests afterwards.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use xtask::lab::Family;

use crate::fixture::{Node, differences};
use crate::objects::{endpoint, service, slice};

const SERVICES: u32 = 100;
const PER_SECOND: u32 = 1000;
const FLOOD: Duration = Duration::from_secs(15);
const IN_FLIGHT: usize = 24;
/// From the end of the flood to maps that hold the truth.
const CONVERGED_WITHIN: Duration = Duration::from_secs(1);
/// Of one core, once all is quiet.
const RESTING: f64 = 0.2;
/// What the flood may add to the agent's memory.
const GROWTH_KB: u64 = 32 * 1024;

/// One of ever changing states of a Service's slice.
fn state(number: u32, round: u32) -> Value {
    let endpoints: Vec<Value> = (1..=1 + (round + number) % 8)
        .map(|n| endpoint(&format!("10.244.2.{}", 1 + (n * 7 + round) % 250), "node2"))
        .collect();
    slice(&format!("s{number}"), Family::V4, &endpoints)
}

#[test]
fn a_flood_of_endpoint_slices_is_followed_and_leaves_no_work_behind() {
    let node = Node::start();
    let ipv4 = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
    node.api.create_all((0..SERVICES).map(|n| service(&format!("s{n}"), &ipv4)));
    node.api.create_all((0..SERVICES).map(|n| state(n, 0)));
    node.converge();
    let pid = node.agent.pid().unwrap();
    let before = memory_kb(pid, "VmRSS");

    let begin = Instant::now();
    let made = AtomicU32::new(0);
    let updates = FLOOD.as_secs() as u32 * PER_SECOND;
    node.api.run(futures::stream::iter(0..updates).for_each_concurrent(IN_FLIGHT, |n| {
        let (api, made) = (&node.api, &made);
        async move {
            let due = begin + Duration::from_secs(1) * n / PER_SECOND;
            tokio::time::sleep_until(due.into()).await;
            // On a machine that cannot take as many the flood is thinner, not longer.
            if begin.elapsed() < FLOOD {
                api.replace_async(&state(n % SERVICES, n / SERVICES)).await;
                made.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
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

    let cpu = cpu_ticks(pid);
    let quiet = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    // Linux counts a hundred ticks a second for user space.
    let share = (cpu_ticks(pid) - cpu) as f64 / 100.0 / quiet.elapsed().as_secs_f64();
    let peak = memory_kb(pid, "VmHWM");
    let made = made.into_inner();
    eprintln!("{made} updates in {FLOOD:?}");
    eprintln!("converged {converged:?} after the flood; then {share:.3} of a core; memory {before} kB, peak {peak} kB");
    assert!(share < RESTING, "{share} of a core without work");
    assert!(peak < before + GROWTH_KB, "memory went from {before} kB to {peak} kB");
}

fn memory_kb(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
