//! What the kernel should do, in terms of load balancing: the output of `resolve` and the input of `plan`.
//!
//! Knows neither Kubernetes types nor maps. One [`DesiredService`] per Kubernetes Service; the unit of change.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::algorithm::{Algorithm, TableSize};
use super::ejection::Ejection;
pub use super::family::Family;
use super::reason::Reason;

/// `namespace/name` of a Service; a Pod with host ports goes for one, `namespace/pod/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// What the name begins with that stands for a Pod: no Service's has a slash.
const POD: &str = "pod/";

impl ServiceName {
    /// The name by which a Pod with host ports goes among Services.
    pub fn of_pod(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: format!("{POD}{name}") }
    }

    /// The Pod's name, if it stands for one.
    pub fn pod(&self) -> Option<&str> {
        self.name.strip_prefix(POD)
    }

    /// Kind and name of the object that it stands for.
    pub fn object(&self) -> (&'static str, String) {
        match self.pod() {
            Some(pod) => ("Pod", format!("{}/{pod}", self.namespace)),
            None => ("Service", self.to_string()),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lb_common::abi::proto::TCP,
            Self::Udp => lb_common::abi::proto::UDP,
            Self::Sctp => lb_common::abi::proto::SCTP,
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Name as in `spec.ports[].protocol`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// One service port and family: what gets a service id, an affinity scope and backend sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    /// The Service.
    pub service: ServiceName,
    /// `spec.ports[].name`; empty for a Service's only, unnamed port.
    pub port_name: String,
    /// `spec.ports[].protocol`.
    pub protocol: Protocol,
    /// Address family.
    pub family: Family,
}

/// The text is no `namespace/name:port/PROTOCOL`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a service port, such as namespace/name:port/TCP")]
pub struct PortIdError(String);

impl PortId {
    /// Reads what [`PortId`] is displayed as, `namespace/name:port/PROTOCOL`, which does not say the family.
    pub fn parse(text: &str, family: Family) -> Result<Self, PortIdError> {
        let parts = || {
            let (namespace, rest) = text.split_once('/')?;
            let (name, rest) = rest.split_once(':')?;
            let (port_name, protocol) = rest.rsplit_once('/')?;
            let service = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
            Some(Self { service, port_name: port_name.to_owned(), protocol: Protocol::from_name(protocol)?, family })
        };
        parts().ok_or_else(|| PortIdError(text.to_owned()))
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.service, self.port_name, self.protocol.name())
    }
}

/// Which field of the Service a frontend comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// A node address with `spec.ports[].nodePort`, or a Pod's `hostPort`.
    NodePort,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
}

/// Which of a service port's two sets a client scope uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// All usable endpoints of the cluster (after topology).
    Cluster,
    /// Usable endpoints on this node.
    Local,
}

/// What happens to a client when the set that it would use is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenEmpty {
    /// TCP RST, ICMP port unreachable: the Service has no usable endpoint at all.
    Refuse,
    /// No answer: usable endpoints exist, but not where the policy wants them.
    Drop,
}

/// A VIP and port. The protocol and family are the service port's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// VIP and port, unique per protocol.
    pub addr: SocketAddr,
    /// Where it comes from.
    pub kind: FrontendKind,
    /// Set for clients inside the cluster.
    pub internal: SetKind,
    /// Set for clients outside of it.
    pub external: SetKind,
    /// Whether [`DesiredPort::source_ranges`] apply (LB addresses only).
    pub source_ranges: bool,
    /// The address is one of this node's own, though not as a `NodePort`'s (those always are): its stack may have
    /// connections of its own there.
    pub node_address: bool,
}

/// One usable endpoint of a service port. Key in [`DesiredPort::backends`] is its address.
///
/// An endpoint that is serving but in neither set (a terminating one beside ready ones, one that topology leaves out)
/// stays here: UDP flows to it live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one endpoint, each a bit in the kernel")]
pub struct Backend {
    /// On this node.
    pub local: bool,
    /// The address is one of this node's own.
    pub host_network: bool,
    /// Terminating.
    pub terminating: bool,
    /// Member of the cluster set.
    pub in_cluster: bool,
    /// Member of the local set.
    pub in_local: bool,
    /// Its share of new connections against the others'; 0: none.
    pub weight: u16,
}

/// One service port and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Identity.
    pub id: PortId,
    /// Frontends, in a stable order.
    pub frontends: Vec<Frontend>,
    /// Endpoints by address.
    pub backends: BTreeMap<SocketAddr, Backend>,
    /// `sessionAffinity` timeout in seconds; 0: none.
    pub affinity_secs: u32,
    /// How new connections are spread.
    pub algorithm: Algorithm,
    /// How many places the table of a set has, where the algorithm has one.
    pub table_size: TableSize,
    /// Whether backends rest that fail far more often than their fellows.
    pub ejection: Ejection,
    /// What an empty cluster set means.
    pub cluster_empty: WhenEmpty,
    /// What an empty local set means.
    pub local_empty: WhenEmpty,
    /// `loadBalancerSourceRanges` of this family.
    pub source_ranges: Vec<IpNet>,
}

impl DesiredPort {
    /// The addresses of a set's members that new connections go to, ascending: not those with weight 0, unless all have.
    pub fn members(&self, set: SetKind) -> impl Iterator<Item = SocketAddr> + '_ {
        let is_member = move |backend: &Backend| match set {
            SetKind::Cluster => backend.in_cluster,
            SetKind::Local => backend.in_local,
        };
        let members = self.backends.iter().filter(move |(_, backend)| is_member(backend));
        let weighted = members.clone().any(|(_, backend)| backend.weight > 0);
        members.filter(move |(_, backend)| !weighted || backend.weight > 0).map(|(addr, _)| *addr)
    }

    /// What it means that the set is empty.
    pub const fn when_empty(&self, set: SetKind) -> WhenEmpty {
        match set {
            SetKind::Cluster => self.cluster_empty,
            SetKind::Local => self.local_empty,
        }
    }
}

/// A Service as the kernel should see it. Empty `ports`: nothing is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Identity.
    pub name: ServiceName,
    /// Service ports, one per port and family.
    pub ports: Vec<DesiredPort>,
    /// The health check that a load balancer outside asks, for a Service that has one.
    pub health: Option<HealthCheck>,
}

/// A Service's `healthCheckNodePort` and what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// The port, on every address on which `NodePort`s could be served, of either family.
    pub port: u16,
    /// Distinct ready IPv4 endpoints on this node; none: the Service is not in that family.
    pub local_v4: Option<u32>,
    /// The same for IPv6.
    pub local_v6: Option<u32>,
}

impl HealthCheck {
    /// Distinct ready endpoints on this node; none: the Service is not in this family.
    pub const fn local(&self, family: Family) -> Option<u32> {
        match family {
            Family::V4 => self.local_v4,
            Family::V6 => self.local_v6,
        }
    }

    /// What is answered to somebody who asks by this family: of a Service of the other family alone, that one's number.
    /// kube-proxy's servers listen on both as well, and upstream's tests ask by either.
    pub const fn answer(&self, family: Family) -> Option<u32> {
        match (self.local(family), self.local_v4, self.local_v6) {
            (Some(count), _, _) | (None, Some(count), _) | (None, None, Some(count)) => Some(count),
            (None, None, None) => None,
        }
    }
}

/// The unit of work between `model` and `plan`: whole Services, never parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The Service is now this.
    Upsert(DesiredService),
    /// The Service is gone, or does not belong to Sluice any more.
    Remove(ServiceName),
}

/// An object, or a part of one, that is not served, and why. Shown in `status`, counted in metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Refusal {
    /// Kind of object, such as `Service`, `EndpointSlice` or `File`.
    pub kind: &'static str,
    /// `namespace/name` or path.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// One line for people: what is wrong and what to do.
    pub message: String,
}

/// What the resolver must know of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `--node-name`.
    pub name: String,
    /// `topology.kubernetes.io/zone`, when the Node has it.
    pub zone: Option<String>,
    /// Every address of the node itself (for host-network endpoints).
    pub addresses: Vec<IpAddr>,
    /// `ClusterIP`s at which the node itself answers, such as `NodeLocal DNSCache`'s: they are left to it.
    pub held: Vec<IpAddr>,
    /// Addresses on which `NodePort`s are served.
    pub node_port_addresses: Vec<IpAddr>,
    /// Serve them on 127.0.0.1 and `::1` as well, to the node's own processes.
    pub loopback_node_ports: bool,
}

/// Whether `spec.externalIPs` are served. kube-proxy serves them up to Kubernetes 1.39; from 1.40 on its gate
/// `AllowServiceExternalIPs` is off (KEP-5707).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalIps {
    /// As the cluster's kube-proxy would: they are, until the cluster is known to be of a version where they are not.
    #[default]
    AsCluster,
    /// The cluster's version serves them no more.
    OffByVersion,
    /// They are, whatever the version.
    On,
    /// They are not, whatever the version.
    Off,
}

impl ExternalIps {
    /// Whether they are served.
    pub const fn served(self) -> bool {
        matches!(self, Self::AsCluster | Self::On)
    }

    /// The same in a cluster of this version, major and minor.
    #[must_use]
    pub const fn at(self, (major, minor): (u32, u32)) -> Self {
        match self {
            Self::AsCluster | Self::OffByVersion if major > 1 || minor >= 40 => Self::OffByVersion,
            Self::AsCluster | Self::OffByVersion => Self::AsCluster,
            Self::On | Self::Off => self,
        }
    }
}

/// Settings of the resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolveSettings {
    /// Whether `spec.externalIPs` are served.
    pub external_ips: ExternalIps,
    /// How connections are spread where a Service does not say.
    pub algorithm: Algorithm,
    /// How many places a table of Maglev has where a Service does not say.
    pub table_size: TableSize,
    /// Outlier ejection where a Service does not say.
    pub ejection: Ejection,
    /// Whether Pods' host ports are served.
    pub host_ports: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_is_read_back_from_its_text() {
        let service = ServiceName { namespace: "shop".into(), name: "web".into() };
        for port_name in ["http", ""] {
            for protocol in Protocol::ALL {
                let id = PortId { service: service.clone(), port_name: port_name.into(), protocol, family: Family::V6 };
                assert_eq!(PortId::parse(&id.to_string(), Family::V6), Ok(id));
            }
        }
        for bad in ["", "web:http/TCP", "shop/web", "shop/web:http", "shop/web:http/tcp", "shop/web:http/"] {
            assert!(PortId::parse(bad, Family::V4).is_err(), "{bad}");
        }
    }
}
