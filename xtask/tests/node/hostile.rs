//! What the attacks have in common: a node under one of several proxies, an outsider and Pods with raw sockets, and
//! clients of whom nobody should notice anything.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use xtask::lab::probe::{Connection, Failure};
use xtask::lab::raw::{Packet, RawSender, TcpFlags};
use xtask::lab::{Agent, Family, Lab, LabOptions, Manifests, Netns, RpFilter, ServiceSpec, plan};

use crate::fixture::{Node, all};
use crate::hostile_nat;

/// Tests of an attack: its name, what it does, and under which proxies, each with the arguments that the attack takes.
/// Each has the kernel's NAT as its control, so that a reader sees what the machine itself loses.
macro_rules! attacks {
    ($($name:ident($attack:expr): $($by:ident($($argument:expr),*)),*;)*) => {$(
        mod $name {
            use super::*;
            $(
                attacks! { @row $by $attack; $($argument),* }
            )*
        }
    )*};
    (@row control_by_the_kernels_nat $attack:expr; $($argument:expr),*) => {
        #[test]
        #[ignore = "a control: what the machine does without Sluice; run it by --include-ignored"]
        fn control_by_the_kernels_nat() {
            $attack($($argument),*);
        }
    };
    (@row $by:ident $attack:expr; $($argument:expr),*) => {
        #[test]
        fn $by() {
            $attack($($argument),*);
        }
    };
}
pub(crate) use attacks;

/// Who translates on the node under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Sluice by TC.
    Tc,
    /// Sluice by XDP on the uplink.
    Xdp,
    /// The kernel's NAT: what the machine can do without Sluice.
    Nat,
}

/// An address on the fabric that is nobody's.
pub(crate) const NOBODY: [&str; 2] = ["10.90.0.77", "fd90::77"];

/// How long a connection may take that an attack should not touch.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// How many of something: as a rule, and where `SLUICE_FULL_SIZE` asks for as many as a bad day has.
pub(crate) fn size(usual: usize, full: usize) -> usize {
    if std::env::var_os("SLUICE_FULL_SIZE").is_some() { full } else { usual }
}

/// A node that serves, and its enemies. Fields drop in this order: the agent first.
pub(crate) struct Field {
    agent: Option<Agent>,
    pub(crate) lab: Lab,
    /// A host on the fabric.
    pub(crate) outsider: Netns,
}

impl Field {
    /// The Service `all` in front of these Pods.
    pub(crate) fn start(proxy: Proxy, pods: &[&str], args: &[&str]) -> Self {
        Self::with(proxy, RpFilter::Strict, &all(), pods, args)
    }

    /// The same with another filter of sources, and a Service that differs from `all` in what is not its frontends.
    pub(crate) fn with(proxy: Proxy, rp_filter: RpFilter, service: &ServiceSpec, pods: &[&str], args: &[&str]) -> Self {
        let options = LabOptions { rp_filter, tx_offload: proxy != Proxy::Xdp, ..LabOptions::default() };
        let xdp = if proxy == Proxy::Xdp { "native" } else { "off" };
        let (agent, lab) = if proxy == Proxy::Nat {
            let lab = Lab::start(options).unwrap();
            hostile_nat::load(&lab, pods, &service.source_ranges);
            (None, lab)
        } else {
            let node = Node::with(options, service, &[&["--xdp", xdp], args].concat());
            let behind = |manifests: &Manifests| {
                manifests.ready(&service.name, pods.iter().map(|name| node.lab.pod(name).unwrap())).unwrap();
            };
            node.change(behind);
            (Some(node.agent), node.lab)
        };
        let outsider = lab.namespace("outsider").unwrap();
        connect(&lab, &outsider);
        Self { agent, lab, outsider }
    }

    /// Raw sockets of the outsider and of a Pod on each kind of CNI.
    pub(crate) fn enemies(&self) -> Vec<(&'static str, RawSender)> {
        [("the outsider", &self.outsider), ("Pod br1", self.pod("br1")), ("Pod rt1", self.pod("rt1"))]
            .into_iter()
            .map(|(name, ns)| (name, RawSender::open(ns).unwrap()))
            .collect()
    }

    /// A Pod's namespace.
    pub(crate) fn pod(&self, name: &str) -> &Netns {
        &self.lab.pod(name).unwrap().ns
    }

    /// The counters that are not zero, for a message.
    pub(crate) fn counters(&self) -> String {
        let Some(agent) = &self.agent else { return "no Sluice".to_owned() };
        let status = agent.json(&["status"]).unwrap();
        let all = status["counters"].as_object().cloned().unwrap_or_default();
        let some: Vec<_> = all.iter().filter(|(_, value)| value.as_u64() != Some(0)).collect();
        format!("{some:?}")
    }
}

/// A host on the fabric, with routes as the client has them.
fn connect(lab: &Lab, host: &Netns) {
    let name = host.name();
    host.sysctl(&[("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")]).unwrap();
    lab.fabric
        .ip(&format!(
            "link add to-{name} type veth peer name eth0 netns {}
            link set to-{name} master fab0 up",
            host.path().display()
        ))
        .unwrap();
    let [v4, v6] = [plan::NODE1_ADDR.v4.to_string(), plan::NODE1_ADDR.v6.to_string()];
    host.ip(&format!(
        "link set eth0 up
        addr add 10.90.0.66/24 dev eth0
        addr add fd90::66/64 dev eth0 nodad
        route add default via {v4}
        route add ::/0 via {v6}"
    ))
    .unwrap();
}

/// The client's address with a port.
pub(crate) fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(plan::CLIENT_ADDR.of(family), port)
}

/// Sends segments with these flags from each port of a range to one address, numbers by chance.
pub(crate) fn spray(enemy: &RawSender, from: impl Iterator<Item = SocketAddr>, to: SocketAddr, flags: &[TcpFlags]) {
    for src in from {
        for flags in flags {
            enemy.send(&Packet::tcp(src, to, *flags)).unwrap();
        }
    }
}

/// Connections of the client's, open while somebody attacks.
pub(crate) struct Open {
    /// Where each leads, and what it is called.
    connections: Vec<(SocketAddr, u16, Connection)>,
}

impl Open {
    /// One from each port to each address, asked once.
    pub(crate) fn start(field: &Field, to: &[SocketAddr], ports: Range<u16>) -> Self {
        let mut connections = Vec::new();
        for dst in to {
            for port in ports.clone() {
                let mut connection = field.lab.client.connect(*dst, port, PATIENCE).unwrap();
                connection.ask().unwrap();
                connections.push((*dst, port, connection));
            }
        }
        Self { connections }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Asks over each of them, and returns what went wrong.
    pub(crate) fn ask(&mut self) -> Vec<String> {
        let each = self.connections.iter_mut();
        each.filter_map(|(dst, port, connection)| {
            let failure = connection.ask().err()?;
            Some(format!("{port} -> {dst}: {failure}"))
        })
        .collect()
    }
}

/// New connections from these ports, one after the other; each has to be made and answered within [`PATIENCE`].
pub(crate) fn connect_each(ns: &Netns, dst: SocketAddr, ports: impl Iterator<Item = u16>) -> Vec<String> {
    let failed = |port: u16| {
        let begun = Instant::now();
        let asked = ns.connect(dst, port, PATIENCE).and_then(|mut connection| connection.ask());
        let late = begun.elapsed() > PATIENCE;
        match asked {
            Ok(_) if late => Some(format!("{port} -> {dst}: after {:?}", begun.elapsed())),
            Ok(_) => None,
            Err(failure) => Some(describe(port, dst, &failure)),
        }
    };
    ports.filter_map(failed).collect()
}

fn describe(port: u16, dst: SocketAddr, failure: &Failure) -> String {
    format!("{port} -> {dst}: {failure}")
}
