//! DNS over connected UDP whose backend goes away: the next query is answered by another one at once.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use xtask::lab::probe::{Cause, TIMEOUT, Transport, UdpClient};
use xtask::lab::{Family, Netns};

use crate::fixture::{ALL, CLUSTER_IP};
use crate::sockets::SocketNode;

const AT_ONCE: Duration = Duration::from_millis(100);
/// When a question is asked again.
const SOON: Duration = Duration::from_millis(20);
/// Nothing takes so long, however busy the machine is.
const NEVER: Duration = Duration::from_secs(1);

/// Answers that took too long: a busy machine may hold up a few.
#[derive(Default)]
struct Late(Vec<String>);

impl Late {
    fn took(&mut self, what: &str, took: Duration, limit: Duration) {
        assert!(took < NEVER, "{what}: {took:?}");
        if took >= limit {
            self.0.push(format!("{what}: {took:?}"));
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let few = rounds() / 10;
        assert!(std::thread::panicking() || self.0.len() <= few, "more than {few} late: {:?}", self.0);
    }
}

/// How often a backend is removed for each client: few in everyday runs, `SLUICE_DNS_ROUNDS` says otherwise.
fn rounds() -> usize {
    std::env::var("SLUICE_DNS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Leaves one Pod as the only endpoint.
fn only(node: &SocketNode, name: &str) {
    let pod = node.node.lab.pod(name).unwrap();
    node.node.change(|manifests| manifests.ready(ALL, [pod]).unwrap());
    // The families are files of their own: the agent may see the second one a moment later.
    let others = || {
        let backends = node.node.agent.json(&["backends"]).unwrap();
        let of_pod = |row: &serde_json::Value| {
            let addr: SocketAddr = row["address"].as_str().unwrap().parse().unwrap();
            pod.addr.contains(addr.ip())
        };
        backends.as_array().unwrap().iter().filter(|row| !of_pod(row)).count()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while others() > 0 {
        assert!(Instant::now() < deadline, "{name} is not the only backend");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Dead peers are seen to right after the write.
    std::thread::sleep(Duration::from_millis(20));
}

/// The Pods that take turns.
fn turns() -> impl Iterator<Item = &'static str> {
    ["rt2", "br2"].into_iter().cycle().skip(1).take(rounds())
}

fn new_client(ns: &Netns, dst: SocketAddr) -> UdpClient {
    ns.udp(dst, 0, TIMEOUT).unwrap_or_else(|err| panic!("{} -> {dst}: {err}", ns.name()))
}

/// The process connects once, and no call of it ever fails: answers may be late, and are asked for again.
#[test]
fn a_connected_socket_moves_when_its_backend_goes_and_no_call_fails() {
    let node = SocketNode::start();
    for ns in [node.host(), node.pod("br1")] {
        for family in Family::ALL {
            let dst = CLUSTER_IP.at(family, Transport::Udp);
            // Always a change, whoever was the last.
            only(&node, "br1");
            only(&node, "rt2");
            let mut late = Late::default();
            let mut client = ns.udp(dst, 0, SOON).unwrap_or_else(|err| panic!("{} -> {dst}: {err}", ns.name()));
            client.ask().unwrap();
            for (round, pod) in turns().enumerate() {
                only(&node, pod);
                let begun = Instant::now();
                // On a busy machine the socket may be seen to a moment later; till then the old Pod, alive here, answers.
                loop {
                    match client.ask() {
                        Ok(answer) if answer.pod == pod => break,
                        Err(failure) if failure.cause != Cause::TimedOut => {
                            panic!("{} round {round}: {failure}", ns.name())
                        }
                        Ok(_) | Err(_) => {}
                    }
                    assert!(begun.elapsed() < NEVER, "{} round {round}: the socket does not move", ns.name());
                }
                late.took(&format!("{} {dst} round {round}", ns.name()), begun.elapsed(), AT_ONCE);
            }
        }
    }
}

#[test]
fn a_connected_socket_hears_at_once_that_its_backend_went_and_the_next_query_is_answered() {
    let node = SocketNode::with(&crate::fixture::all(), &["--no-socket-move"]);
    for ns in [node.host(), node.pod("br1")] {
        let dst = CLUSTER_IP.at(Family::V4, Transport::Udp);
        // Always a change, whoever was the last.
        only(&node, "br1");
        only(&node, "rt2");
        let mut late = Late::default();
        let mut client = new_client(&ns, dst);
        client.ask().unwrap();
        for (round, pod) in turns().take(rounds() / 4).enumerate() {
            only(&node, pod);
            let begun = Instant::now();
            // On a busy machine the socket may be seen to a moment later; till then the old Pod, alive here, answers.
            let failure = loop {
                match client.ask() {
                    Err(failure) => break failure,
                    Ok(answer) => assert_ne!(answer.pod, pod, "{} round {round}", ns.name()),
                }
                assert!(begun.elapsed() < NEVER, "{} round {round}: the socket lives on", ns.name());
            };
            assert_ne!(failure.cause, Cause::TimedOut, "{} round {round}: {failure}", ns.name());
            client = new_client(&ns, dst);
            let answer = client.ask().unwrap_or_else(|err| panic!("{} round {round}: {err}", ns.name()));
            late.took(&format!("{} {dst} round {round}", ns.name()), begun.elapsed(), AT_ONCE);
            assert_eq!(answer.pod, pod, "{} round {round}", ns.name());
        }
    }
}

#[test]
fn a_resolver_that_opens_a_socket_per_query_never_waits() {
    let node = SocketNode::start();
    for ns in [node.host(), node.pod("br1")] {
        let dst = CLUSTER_IP.at(Family::V4, Transport::Udp);
        let mut late = Late::default();
        for (round, pod) in turns().enumerate() {
            only(&node, pod);
            let begun = Instant::now();
            assert_eq!(ns.ask(Transport::Udp, dst).unwrap().pod, pod, "round {round}");
            late.took(&format!("{} round {round}", ns.name()), begun.elapsed(), AT_ONCE);
        }
    }
}

/// `getent hosts` with a `resolv.conf` of its own; how long it took and whether it got an answer at all. The lab's
/// servers know no addresses, so an answer is "no such host" (status 2) long before the resolver's own time-out.
fn getent(ns: &Netns, conf: &std::path::Path) -> Duration {
    let conf = conf.to_owned();
    ns.run(move || {
        let mut command = Command::new("getent");
        command.args(["ahostsv4", "whoami.sluice.test"]);
        let private = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(Some(&conf), "/etc/resolv.conf", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated.
        unsafe { command.pre_exec(private) };
        let begun = Instant::now();
        let status = command.status()?;
        anyhow::ensure!(status.code() == Some(2), "getent: {status}");
        Ok(begun.elapsed())
    })
    .unwrap()
}

#[test]
fn the_c_librarys_resolver_is_answered_at_once_after_each_change() {
    let node = SocketNode::start();
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    let server = CLUSTER_IP.at(Family::V4, Transport::Udp).ip();
    fs::write(&conf, format!("nameserver {server}\noptions timeout:5 attempts:1\n")).unwrap();
    for ns in [node.host(), node.pod("br1")] {
        let mut late = Late::default();
        for (round, pod) in turns().enumerate() {
            only(&node, pod);
            // The process itself takes some milliseconds to start.
            late.took(&format!("{} round {round}", ns.name()), getent(&ns, &conf), 2 * AT_ONCE);
        }
    }
}
