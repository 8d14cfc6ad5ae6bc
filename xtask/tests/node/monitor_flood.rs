//! More events than a monitor can show: each is shown or counted as lost, and the monitor stays small.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::lab::plan::{CLIENT_ADDR, cluster_ip};
use xtask::lab::{Family, ServiceSpec, sluice_binary};

use crate::fixture::Node;

const FLOOD: Duration = Duration::from_secs(3);
/// What it needs to know Services and devices, with the ring of 1 MiB.
const MEMORY_KIB: u64 = 64 * 1024;

/// Packets for which there was no endpoint: refused, or dropped where so many refusals would be too many.
fn refused(node: &Node) -> u64 {
    let status = node.agent.json(&["status"]).unwrap();
    ["reject_no_endpoints", "drop_refusal_limited"].iter().map(|name| status["counters"][name].as_u64().unwrap()).sum()
}

fn memory_kib(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Datagrams as fast as they can be sent. Refusals come back, which is no failure.
fn flood(node: &Node, to: SocketAddr) {
    node.lab
        .client
        .run(|| {
            let socket = UdpSocket::bind((CLIENT_ADDR.of(Family::V4), 0))?;
            let begin = Instant::now();
            while begin.elapsed() < FLOOD {
                for _ in 0..64 {
                    let _refused = socket.send_to(b"?", to);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn of_a_flood_each_event_is_shown_or_counted_as_lost_and_the_monitor_stays_small() {
    let node = Node::start();
    let lonely = cluster_ip(11);
    node.change(|manifests| manifests.service(&ServiceSpec::new("lonely", lonely)).unwrap());
    let pins = node.agent.pin_path().display().to_string();
    let args = ["monitor", "--event", "refused", "--event", "dropped", "--seconds", "6", "--pin-path", &pins];
    let mut monitor =
        node.lab.node1.run(|| Ok(Command::new(sluice_binary()?).args(args).stdout(Stdio::piped()).spawn()?)).unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("TIME "), "it listens");
    let reader = thread::spawn(move || {
        let (mut shown, mut lost) = (0, 0);
        for line in lines {
            match line.strip_prefix("-- ") {
                Some(told) => lost = told.split(' ').next().unwrap().parse::<u64>().unwrap(),
                None => shown += 1,
            }
        }
        (shown, lost)
    });
    let before = refused(&node);
    let process = Pid::from_raw(monitor.id().try_into().unwrap());
    thread::scope(|scope| {
        // For a while it reads nothing, as on a node whose processors are busy.
        scope.spawn(move || {
            for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                thread::sleep(FLOOD / 3);
                kill(process, signal).unwrap();
            }
        });
        flood(&node, SocketAddr::new(lonely.of(Family::V4), 53));
    });
    let sent = refused(&node) - before;
    let memory = memory_kib(&monitor);
    assert!(monitor.wait().unwrap().success());
    let (shown, lost): (u64, u64) = reader.join().unwrap();
    eprintln!("{} events a second: {shown} shown, {lost} lost; {memory} KiB", sent / FLOOD.as_secs());
    assert_eq!(shown + lost, sent, "{shown} shown, {lost} lost");
    assert!(shown > 0 && lost > 0 && memory < MEMORY_KIB, "{shown} shown, {lost} lost, {memory} KiB");
}
