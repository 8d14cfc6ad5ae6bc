//! One node with two Pods, an external client and a second node, in their own network namespaces.
//!
//! ```text
//!   client Pod 10.244.1.10 --- cali-client +------+ eth0 --- outside 10.90.0.100 (also 10.244.9.9, a Pod elsewhere)
//!                                          | node |
//!   server Pod 10.244.1.11 -- cali-server  +------+ eth1 --- node2 --- remote Pod 10.244.2.11
//! ```
//!
//! Each row of the bench that needs its own node has one of these, with the same addresses: all are up at the same
//! time, so that rounds cost no set-up.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::lab::plan::NODE1_ADDR;
use crate::lab::{Netns, RunDir};

/// The server Pods' addresses: ten each, so that a Service has ten endpoints that all answer.
pub(super) const LOCAL: [Ipv4Addr; 10] = ten([10, 244, 1]);
/// The same on the other node.
pub(super) const REMOTE: [Ipv4Addr; 10] = ten([10, 244, 2]);
/// The node, towards the outside.
pub(super) const NODE: Ipv4Addr = NODE1_ADDR.v4;
/// The client outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 100);
/// A client that counts as a Pod of a third node.
pub(super) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);
/// The client Pod.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 10);
/// The link between the nodes.
const BETWEEN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 90, 1, 11), Ipv4Addr::new(10, 90, 1, 12)];
/// The uplink's link address on the node.
pub(super) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

const fn ten([a, b, c]: [u8; 3]) -> [Ipv4Addr; 10] {
    let mut all = [Ipv4Addr::UNSPECIFIED; 10];
    let mut at = 0;
    while at < 10 {
        all[at as usize] = Ipv4Addr::new(a, b, c, 11 + at);
        at += 1;
    }
    all
}

/// The node's devices with Pods behind them.
pub(super) const POD_DEVICES: [&str; 2] = ["cali-client", "cali-server"];
/// The node's devices that lead elsewhere.
pub(super) const UPLINKS: [&str; 2] = ["eth0", "eth1"];

/// The namespaces.
#[derive(Debug)]
pub(super) struct Island {
    /// The node under test.
    pub(super) node: Netns,
    /// The client Pod.
    pub(super) client: Netns,
    /// The Pod that serves, with [`LOCAL`].
    pub(super) server: Netns,
    /// Beyond the first uplink.
    pub(super) outside: Netns,
    /// The Pod of the other node, with [`REMOTE`].
    pub(super) remote: Netns,
    _node2: Netns,
}

impl Island {
    /// Builds it; `name` tells its namespaces from others'.
    pub(super) fn build(dir: &RunDir, name: &str) -> Result<Self> {
        let make = |part: &str| {
            let ns = Netns::create(&dir.namespaces(), &format!("{name}-{part}"))?;
            ns.sysctl(&SYSCTLS)?;
            Ok::<_, anyhow::Error>(ns)
        };
        let (node, node2) = (make("node")?, make("node2")?);
        for router in [&node, &node2] {
            router.sysctl(&[("ipv4/ip_forward", "1")])?;
        }
        let (client, server) = (make("client")?, make("server")?);
        let (outside, remote) = (make("outside")?, make("remote")?);
        let island = Self { node, client, server, outside, remote, _node2: node2.clone() };
        island.wire(&node2).with_context(|| format!("cannot build the node of {name}"))?;
        Ok(island)
    }

    fn wire(&self, node2: &Netns) -> Result<()> {
        pod(&self.node, &self.client, "cali-client", &[CLIENT])?;
        pod(&self.node, &self.server, "cali-server", &LOCAL)?;
        pod(node2, &self.remote, "cali-remote", &REMOTE)?;
        let [mac, outside, node2_path] = [link_address(), path(&self.outside), path(node2)];
        let [here, there] = BETWEEN;
        self.node.ip(&format!(
            "link add eth0 address {mac} type veth peer name eth0 netns {outside}
            link add eth1 type veth peer name eth0 netns {node2_path}
            addr add {NODE}/24 dev eth0
            addr add {here}/24 dev eth1
            link set eth0 up
            link set eth1 up"
        ))?;
        self.outside.ip(&format!(
            "addr add {OUTSIDE}/24 dev eth0
            addr add {ELSEWHERE}/32 dev lo
            link set eth0 up
            route add default via {NODE}"
        ))?;
        node2.ip(&format!("addr add {there}/24 dev eth0\nlink set eth0 up\nroute add default via {here}"))?;
        self.node.ip(&format!(
            "route add default via {OUTSIDE}
            route add {ELSEWHERE}/32 via {OUTSIDE}
            route add 10.244.2.0/24 via {there}"
        ))?;
        // A veth takes frames that are redirected into it only where its other end receives by NAPI.
        self.node.command("ethtool", &["-K", "eth0", "gro", "on"]).map(drop)
    }

    /// The namespace that holds a device of the node's Pods and uplinks.
    pub(super) fn devices() -> impl Iterator<Item = &'static str> {
        POD_DEVICES.into_iter().chain(UPLINKS)
    }
}

/// What the namespaces have in common: many short connections with few ports, and an end to what gets no answer.
const SYSCTLS: [(&str, &str); 9] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/ip_local_port_range", "1024 60999"),
    // A client's closed connections are not kept: the bench makes more of them than there are ports.
    ("ipv4/tcp_max_tw_buckets", "1024"),
    ("ipv4/tcp_syn_retries", "1"),
    ("ipv4/tcp_retries2", "3"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // ICMP that refuses a packet is a failure of the bench, and is to be seen at once.
    ("ipv4/icmp_ratelimit", "0"),
];

/// A Pod behind a veth with its own routes, as routed CNIs do it.
fn pod(node: &Netns, pod: &Netns, device: &str, addresses: &[Ipv4Addr]) -> Result<()> {
    pod.ip(&format!("link add eth0 type veth peer name {device} netns {}", path(node)))?;
    node.sysctl(&[
        (&format!("ipv4/conf/{device}/proxy_arp"), "1"),
        (&format!("ipv4/neigh/{device}/proxy_delay"), "0"),
    ])?;
    let each = |line: &dyn Fn(&Ipv4Addr) -> String| addresses.iter().map(line).collect::<Vec<_>>().join("\n");
    let routes = each(&|address| format!("route add {address}/32 dev {device}"));
    let addresses = each(&|address| format!("addr add {address}/32 dev eth0"));
    node.ip(&format!("link set {device} up\n{routes}"))?;
    pod.ip(&format!(
        "link set eth0 up
        {addresses}
        route add 169.254.1.1 dev eth0 scope link
        route add default via 169.254.1.1"
    ))
}

fn path(ns: &Netns) -> String {
    ns.path().display().to_string()
}

fn link_address() -> String {
    NODE_MAC.map(|byte| format!("{byte:02x}")).join(":")
}
