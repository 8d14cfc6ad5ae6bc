//! Ten thousand Services of ten endpoints each, as an operator looks at them: each command answers within a second.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use xtask::build;
use xtask::lab::plan::{CLIENT_ADDR, cluster_ip};
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests, ServiceSpec};

use crate::fixture::{ALL, all};
use crate::scale::write_services;

/// From the call to the last line.
const ANSWER: Duration = Duration::from_secs(1);
/// What `sluice top` waits for between its two looks is no work.
const TOP_INTERVAL: Duration = Duration::from_millis(100);
/// Flows of the lab's Service, so that the flow tables are not empty either.
const FLOWS: u16 = 20_000;

const VIEWS: [&[&str]; 13] = [
    &["status"],
    &["status", "-o", "wide"],
    &["services"],
    &["services", "scale/svc-77"],
    &["services", "--problems"],
    &["services", "-o", "json"],
    &["backends"],
    &["backends", "scale/svc-77"],
    &["flows"],
    &["top", "--batch", "--iterations", "1", "--interval", "100ms"],
    &["top", "--batch", "--backends", "--iterations", "1", "--interval", "100ms"],
    &["explain", "scale/svc-77"],
    &["explain", "10.96.1.77:80"],
];

/// A datagram from each of so many ports.
fn open_flows(lab: &Lab) {
    let service = SocketAddr::new(cluster_ip(10).of(Family::V4), 53);
    let client = CLIENT_ADDR.of(Family::V4);
    lab.client
        .run(|| {
            for port in 10_000..10_000 + FLOWS {
                let socket = UdpSocket::bind((client, port))?;
                socket.send_to(b"?", service)?;
            }
            Ok(())
        })
        .unwrap();
}

/// Processor time of all commands that have ended.
fn processor() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// The best of three: a busy machine is not what is measured. Time and processor time.
fn measure(agent: &Agent, args: &[&str]) -> (Duration, Duration) {
    let tries = (0..3).map(|_| {
        let (begin, busy) = (Instant::now(), processor());
        let said = agent.cli(args).unwrap();
        assert!(said.lines().count() > 1, "{args:?}: {said}");
        let waits = if args[0] == "top" { TOP_INTERVAL } else { Duration::ZERO };
        (begin.elapsed().saturating_sub(waits), processor().saturating_sub(busy))
    });
    tries.min().unwrap()
}

#[test]
fn of_ten_thousand_services_each_view_answers_within_a_second() {
    // A figure for a machine that has nothing else to do.
    if std::env::var_os("SLUICE_FULL_SIZE").is_none() {
        eprintln!("left out: SLUICE_FULL_SIZE=1 asks for it");
        return;
    }
    let binary = build::agent(true).unwrap();
    let lab = Lab::start(LabOptions::default()).unwrap();
    let manifests = Manifests::of(&lab);
    manifests.service(&all()).unwrap();
    manifests.ready(ALL, lab.pods()).unwrap();
    manifests.service(&ServiceSpec::new("lonely", cluster_ip(11))).unwrap();
    write_services(manifests.dir());
    let mut agent = Agent::prepare(&lab, AgentOptions::new(&binary, manifests.dir()));
    agent.spawn().unwrap();
    agent.wait_synced(Duration::from_secs(60)).unwrap();
    open_flows(&lab);
    let mut late = Vec::new();
    for args in VIEWS {
        let (took, busy) = measure(&agent, args);
        eprintln!("{:>5} ms, {:>5} ms of a processor: sluice {}", took.as_millis(), busy.as_millis(), args.join(" "));
        if took > ANSWER {
            late.push(args.join(" "));
        }
    }
    assert!(late.is_empty(), "later than {ANSWER:?}: {late:#?}");
    let flows = agent.json(&["flows"]).unwrap().as_array().unwrap().len();
    assert_eq!(flows, 10_000, "as many as --limit says");
}
