//! What `sluice status` says of the kernel, against what the kernel's version promises.

use std::time::{Duration, Instant};

use xtask::lab::Family;
use xtask::lab::probe::Transport;

use crate::fixture::{CLUSTER_IP, Node};

/// Major and minor version of the kernel.
fn release() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(['.', '-', '+']).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn status_says_what_the_kernel_lacks_and_what_is_done_instead() {
    let node = Node::start();
    let report = &node.agent.json(&["status"]).unwrap()["report"];
    let found = |name: &str| {
        let features = report["attach"]["features"].as_array().unwrap();
        features.iter().find(|feature| feature["name"] == name).unwrap_or_else(|| panic!("{name}: {features:?}"))["found"]
            == true
    };
    let is = release();
    assert_eq!(found("tcx"), is >= (6, 6));
    assert_eq!(found("xdp_frags"), is >= (5, 18));
    assert_eq!(found("socket_refusal"), is >= (5, 18));
    assert_eq!(found("netns_cookie"), is >= (5, 14));
    let how = if is >= (6, 6) { "tcx" } else { "clsact" };
    let devices = report["attach"]["devices"].as_array().unwrap();
    let hooks: Vec<_> = devices.iter().flat_map(|device| device["hooks"].as_array().unwrap()).collect();
    assert!(hooks.len() >= 10 && hooks.iter().all(|hook| hook["how"] == how), "{hooks:?}");
    let text = node.agent.cli(&["status", "-o", "wide"]).unwrap();
    assert!(text.contains("socket_refusal") && text.contains(how), "{text}");
}

#[test]
fn cleanup_leaves_no_program_on_any_device() {
    let mut node = Node::start();
    let dst = CLUSTER_IP.at(Family::V4, Transport::Tcp);
    let clients = node.clients().map(|client| client.ns.clone());
    node.agent.stop().unwrap();
    for ns in &clients {
        ns.ask(Transport::Tcp, dst).unwrap_or_else(|err| panic!("{} without the agent: {err}", ns.name()));
    }
    node.agent.cli(&["cleanup"]).unwrap();
    // The kernel frees links in its own time.
    let deadline = Instant::now() + Duration::from_secs(5);
    for ns in &clients {
        let ask = || ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, Duration::from_millis(300)))).unwrap();
        while let Ok(answer) = ask() {
            assert!(Instant::now() < deadline, "{}: {} answered", ns.name(), answer.pod);
        }
    }
    for device in
        node.lab.pods().iter().filter(|pod| pod.cni.node() == node.lab.node1.name()).map(|pod| &pod.host_device)
    {
        for hook in ["ingress", "egress"] {
            // No clsact at all is an error to `tc`, and as good.
            let shown = node.lab.node1.command("tc", &["filter", "show", "dev", device, hook]).unwrap_or_default();
            assert!(!shown.contains("pod_"), "{device}: {shown}");
        }
    }
}
