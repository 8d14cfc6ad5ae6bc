//! Who asks, through which frontend, and which source address the answering Pod must then have seen.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::netns::Netns;
use super::plan::{BRIDGE_ADDR, CLIENT_ADDR, Dual, Family, NODE1_ADDR};
use super::probe::Transport;
use super::topology::{Cni, Lab, Pod};

/// Somebody who opens connections.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Name of the Pod, or of the external client.
    pub name: &'a str,
    /// Its namespace.
    pub ns: &'a Netns,
    /// Its addresses.
    pub addr: Dual,
    /// Whether it is outside of the cluster.
    pub external: bool,
}

impl<'a> Client<'a> {
    /// A Pod of the lab as a client.
    pub fn pod(pod: &'a Pod) -> Self {
        Self { name: &pod.name, ns: &pod.ns, addr: pod.addr, external: false }
    }

    /// The external client.
    pub fn external(lab: &'a Lab) -> Self {
        Self { name: lab.client.name(), ns: &lab.client, addr: CLIENT_ADDR, external: true }
    }

    /// A process of the node under test, which these sockets belong to.
    pub fn process(sockets: &'a Netns) -> Self {
        Self { name: sockets.name(), ns: sockets, addr: NODE1_ADDR, external: false }
    }

    /// One client of each sort: a Pod on the bridge, a Pod on the routed CNI, one from outside.
    pub fn each_sort(lab: &'a Lab) -> Result<[Self; 3]> {
        Ok([Self::pod(lab.pod("br1")?), Self::pod(lab.pod("rt1")?), Self::external(lab)])
    }
}

/// What makes an address and port a Service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.ports[].nodePort` at the node's address.
    NodePort,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
}

impl FrontendKind {
    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "externalIP",
        }
    }
}

/// A dual-stack frontend with a TCP port for HTTP and a UDP port for DNS.
#[derive(Clone, Copy, Debug)]
pub struct Frontend {
    /// Its kind.
    pub kind: FrontendKind,
    /// Its addresses.
    pub ip: Dual,
    /// Its TCP and its UDP port.
    pub ports: [u16; 2],
}

impl Frontend {
    /// Where a client sends to.
    pub const fn at(&self, family: Family, transport: Transport) -> SocketAddr {
        let [tcp, udp] = self.ports;
        let port = match transport {
            Transport::Tcp => tcp,
            Transport::Udp => udp,
        };
        SocketAddr::new(self.ip.of(family), port)
    }
}

/// Whose address the Pod sees as its client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Client,
    /// One of the node's.
    Node,
}

impl Source {
    /// What design and semantics ask for, with the ranges of Pods known to the agent: the client's address wherever
    /// the reply comes by this node anyway; the node's for its own processes, for hairpin, for outside clients of remote
    /// Pods, and for outside clients of a `ClusterIP`.
    pub fn expected(client: &Client<'_>, kind: FrontendKind, pod: &Pod) -> Self {
        let process = client.addr == NODE1_ADDR;
        let hairpin = client.addr == pod.addr;
        let from_outside = client.external && (pod.cni == Cni::Remote || kind == FrontendKind::ClusterIp);
        if process || hairpin || from_outside { Self::Node } else { Self::Client }
    }

    /// Whether the address that a Pod saw is this one.
    pub fn holds(self, client: &Client<'_>, seen: IpAddr) -> bool {
        match self {
            Self::Client => client.addr.contains(seen),
            Self::Node => NODE1_ADDR.contains(seen) || BRIDGE_ADDR.contains(seen),
        }
    }
}
