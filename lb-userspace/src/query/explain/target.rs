//! What is asked about: a Service or an address, and which client.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::model::desired::{NodeFacts, ServiceName};
use crate::model::record::{PortRecord, ServiceRecord};
use crate::model::view::View;

/// The Service or address in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `[NS/]SERVICE[:PORT]`.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Name or number of the port; none: all ports.
        port: Option<String>,
    },
    /// `VIP:PORT`, or a node's address and a `NodePort`.
    Address(SocketAddr),
}

/// The text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither [NAMESPACE/]SERVICE[:PORT] nor ADDRESS:PORT")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::Address(addr));
        }
        let (namespace, rest) = text.split_once('/').unwrap_or(("default", text));
        let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !word(namespace) || !word(name) || !port.is_none_or(word) {
            return Err(TargetError(text.to_owned()));
        }
        Ok(Self::Service { namespace: namespace.into(), name: name.into(), port: port.map(Into::into) })
    }
}

impl Target {
    /// Whether this Service has to do with it.
    pub(super) fn concerns(&self, of: &ServiceName, service: Option<&ServiceRecord>, node: &NodeFacts) -> bool {
        match self {
            Self::Service { namespace, name, .. } => of.namespace == *namespace && of.name == *name,
            Self::Address(addr) => service.is_some_and(|service| {
                let ips = [&service.cluster_ips, &service.load_balancer_ips, &service.external_ips];
                let node = node.node_port_addresses.contains(&addr.ip());
                ips.iter().any(|ips| ips.contains(&addr.ip()))
                    || (node && service.ports.iter().any(|port| port.node_port == addr.port()))
            }),
        }
    }

    /// Whether this port is meant.
    pub(super) fn wants_port(&self, port: &PortRecord) -> bool {
        match self {
            Self::Service { port: None, .. } => true,
            Self::Service { port: Some(wanted), .. } => *wanted == *port.name || wanted.parse() == Ok(port.port),
            Self::Address(addr) => addr.port() == port.port || addr.port() == port.node_port,
        }
    }

    /// Whether this frontend is meant.
    pub(super) fn wants_frontend(&self, frontend: SocketAddr) -> bool {
        match self {
            Self::Service { .. } => true,
            Self::Address(addr) => *addr == frontend,
        }
    }
}

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A Pod of this node.
    Pod,
    /// The node itself.
    Node,
    /// Outside of this node.
    Outside,
    /// Who has this address.
    At(IpAddr),
}

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pod" => Ok(Self::Pod),
            "node" => Ok(Self::Node),
            "outside" => Ok(Self::Outside),
            ip => ip.parse().map(Self::At).map_err(|_error| "use pod, node, outside or an IP address".to_owned()),
        }
    }
}

impl Client {
    /// Its address, when it is known.
    pub(super) const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::At(ip) => Some(ip),
            Self::Pod | Self::Node | Self::Outside => None,
        }
    }

    /// The kind of client that has the address: the node, a Pod that is a local endpoint, else outside.
    pub(super) fn kind(self, view: &View<'_>) -> Self {
        let Self::At(ip) = self else { return self };
        let NodeFacts { name, addresses, .. } = view.node;
        let mut endpoints = view.slices.iter().flat_map(|slice| &slice.endpoints);
        if addresses.contains(&ip) {
            Self::Node
        } else if endpoints.any(|endpoint| endpoint.ip == ip && endpoint.node.as_deref() == Some(name.as_str())) {
            Self::Pod
        } else {
            Self::Outside
        }
    }

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pod => "a Pod of this node",
            Self::Node => "the node itself",
            Self::Outside => "outside of the node",
            Self::At(_) => "this address",
        }
    }
}
