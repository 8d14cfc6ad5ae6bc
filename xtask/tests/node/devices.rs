//! Devices that come, go and refuse; kernels that lack a feature; two agents on one kernel.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use xtask::lab::{Agent, AgentOptions, Cni, Lab, LabOptions, Manifests, sluice_binary};

use crate::fixture::{ALL, FRONTENDS, Node, addresses, all};

/// New devices are attached at once; each hook takes the kernel some 10 ms, a busy one more.
const SOON: Duration = Duration::from_secs(20);

fn soon(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !check() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every sort of client reaches every frontend.
fn all_is_served(node: &Node) {
    for client in node.clients() {
        for (transport, dst) in FRONTENDS.iter().flat_map(addresses) {
            if let Err(failure) = client.ns.ask(transport, dst) {
                panic!("{} -> {dst}/{}: {failure}", client.name, transport.name());
            }
        }
    }
}

fn device(agent: &Agent, name: &str) -> Option<Value> {
    let status = agent.json(&["status"]).unwrap();
    let devices = status["report"]["attach"]["devices"].as_array().cloned().unwrap_or_default();
    devices.into_iter().find(|row| row["name"] == name)
}

fn hooks(row: &Value) -> Vec<(String, String)> {
    let word = |hook: &Value, field: &str| hook[field].as_str().unwrap_or_default().to_owned();
    row["hooks"].as_array().into_iter().flatten().map(|hook| (word(hook, "hook"), word(hook, "how"))).collect()
}

fn pins_of(agent: &Agent, device: &str) -> usize {
    let links = fs::read_dir(agent.pin_path().join("links")).unwrap();
    let of_device = |name: String| name.starts_with(&format!("{device}:"));
    links.flatten().filter(|entry| of_device(entry.file_name().to_string_lossy().into_owned())).count()
}

#[test]
fn a_pod_that_vanishes_leaves_nothing_behind_and_is_served_when_it_returns() {
    let mut node = Node::start();
    for (name, cni, host_device) in [("br1", Cni::Bridge, "vethbr1"), ("rt1", Cni::Routed, "calirt1")] {
        assert_eq!(pins_of(&node.agent, host_device), 2, "{host_device}");
        node.lab.remove_pod(name).unwrap();
        node.manifests.ready(ALL, node.lab.pods()).unwrap();
        soon(&format!("{host_device} is forgotten"), || {
            device(&node.agent, host_device).is_none() && pins_of(&node.agent, host_device) == 0
        });
        let (transport, dst) = addresses(&FRONTENDS[0]).next().unwrap();
        for client in [&node.lab.client, &node.lab.pod("br2").unwrap().ns, &node.lab.pod("rt2").unwrap().ns] {
            for answer in client.ask_many(transport, dst, 20).unwrap() {
                assert_ne!(answer.pod, name, "a Pod that is gone");
            }
        }
        node.lab.add_pod(name, cni).unwrap();
        node.manifests.ready(ALL, node.lab.pods()).unwrap();
        soon(&format!("{host_device} is attached again"), || {
            device(&node.agent, host_device).is_some_and(|row| hooks(&row).len() == 2)
        });
        all_is_served(&node);
    }
}

#[test]
fn a_burst_of_devices_that_come_and_go_ends_with_those_that_stayed() {
    let node = Node::start();
    let count = 20;
    for round in 0..3 {
        let add: String = (0..count)
            .map(|n| {
                format!("link add cali{round}x{n} type veth peer name p{round}x{n}\nlink set cali{round}x{n} up\n")
            })
            .collect();
        node.lab.node1.ip(&add).unwrap();
        let keep = count - round;
        let del: String = (0..keep).map(|n| format!("link del cali{round}x{n}\n")).collect();
        node.lab.node1.ip(&del).unwrap();
    }
    soon("the devices of the report are those of the node", || {
        let status = node.agent.json(&["status"]).unwrap();
        let rows = status["report"]["attach"]["devices"].as_array().cloned().unwrap_or_default();
        rows.iter().filter(|row| row["name"].as_str().is_some_and(|name| name.contains('x'))).count() == 2 * 3
    });
    soon("links of vanished devices are gone", || {
        let links = fs::read_dir(node.agent.pin_path().join("links")).unwrap().flatten();
        let names: Vec<_> = links.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        !names.iter().any(|name| name.starts_with("cali0x") || name.starts_with("cali1x0"))
    });
    all_is_served(&node);
}

#[test]
fn clsact_filters_do_the_work_of_tcx_links_and_outlive_the_agent() {
    let mut node = Node::with(LabOptions::default(), &all(), &["--tc", "clsact"]);
    for name in ["vethbr1", "calirt1", "eth0"] {
        let row = device(&node.agent, name).unwrap();
        assert_eq!(hooks(&row), [("ingress", "clsact"), ("egress", "clsact")].map(|(a, b)| (a.into(), b.into())));
    }
    all_is_served(&node);
    node.agent.kill9().unwrap();
    all_is_served(&node);
    node.agent.restart().unwrap();
    all_is_served(&node);
    node.lab.remove_pod("rt1").unwrap();
    node.lab.add_pod("rt1", Cni::Routed).unwrap();
    soon("calirt1 is attached again", || device(&node.agent, "calirt1").is_some_and(|row| hooks(&row).len() == 2));
    all_is_served(&node);
}

#[test]
fn xdp_that_the_driver_refuses_is_said_and_done_by_tc() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    // A veth has native XDP only if it has a receive queue for each sending queue of its peer.
    lab.fabric.command("ethtool", &["-L", "to-node1", "tx", "2"]).unwrap();
    let manifests = Manifests::of(&lab);
    manifests.service(&all()).unwrap();
    manifests.ready(ALL, lab.pods()).unwrap();
    let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir()).arg("--xdp").arg("native");
    let agent = Agent::start(&lab, options).unwrap();
    let node = Node { agent, manifests, lab };
    all_is_served(&node);
    let row = device(&node.agent, "eth0").unwrap();
    assert_eq!(hooks(&row).len(), 2, "{row}");
    let errors = row["errors"].to_string();
    assert!(errors.contains("native XDP is not used, TC does its work"), "{row}");
    assert!(node.agent.log().contains("native XDP is not used, TC does its work"));
}

#[test]
fn agents_of_two_nodes_live_side_by_side_on_one_kernel() {
    let mut first = Node::start();
    let second = Node::start();
    all_is_served(&first);
    all_is_served(&second);
    first.agent.kill9().unwrap();
    drop(second.agent);
    drop(second.manifests);
    drop(second.lab);
    all_is_served(&first);
    first.agent.restart().unwrap();
    all_is_served(&first);
}

#[test]
fn sigterm_leaves_everything_in_place() {
    let mut node = Node::start();
    let links = pins_of(&node.agent, "eth0");
    node.agent.stop().unwrap();
    assert_eq!(pins_of(&node.agent, "eth0"), links);
    all_is_served(&node);
    let status = node.agent.json(&["status"]).unwrap();
    assert_eq!((&status["agent"]["alive"], &status["synced"]), (&Value::Bool(false), &Value::Bool(true)));
}

/// A SYN to a `NodePort` of `node1`, from the client, perhaps with a VLAN tag.
fn syn_frame(destination: [u8; 6], tag: Option<u16>) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    if let Some(vlan) = tag {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 90, 0, 100, 10, 90, 0, 11]);
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(30_080_u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn send_frame(device: &str, frame: &[u8]) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = nix::net::if_::if_nametoindex(device)?;
    // SAFETY: `sockaddr_ll` is integers and an array of them; all zeroes is valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (to.sll_family, to.sll_ifindex) = (u16::try_from(libc::AF_PACKET)?, i32::try_from(index)?);
    let size = libc::socklen_t::try_from(size_of_val(&to))?;
    // SAFETY: the pointers and lengths are those of the frame and of the address.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size)
    };
    anyhow::ensure!(usize::try_from(sent)? == frame.len(), "sendto: {}", std::io::Error::last_os_error());
    Ok(())
}

#[test]
fn frames_of_a_vlan_are_left_to_the_vlans_own_device() {
    let node = Node::start();
    let address = node.lab.node1.command("cat", &["/sys/class/net/eth0/address"]).unwrap();
    let octets: Vec<u8> = address.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let to = <[u8; 6]>::try_from(octets).unwrap();
    let new_flows = || node.agent.json(&["status"]).unwrap()["counters"]["new_flow"].as_u64().unwrap();
    let after = |tag| {
        let before = new_flows();
        node.lab.client.run(|| send_frame("eth0", &syn_frame(to, tag))).unwrap();
        thread::sleep(Duration::from_millis(100));
        new_flows() - before
    };
    assert_eq!(after(Some(100)), 0, "VLAN 100");
    assert_eq!(after(Some(3 << 13)), 1, "a priority and no VLAN");
    node.agent.cli(&["status"]).unwrap();
}
