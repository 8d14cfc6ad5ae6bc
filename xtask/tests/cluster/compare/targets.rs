//! Where a Service can be asked: every address and port that it has, and some that it has not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use xtask::lab::Family;
use xtask::lab::plan::{BRIDGE_ADDR, NODE1_ADDR};
use xtask::lab::probe::Transport;

use super::sides::Who;

/// What an address and port is to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClusterIp,
    NodePort,
    /// On another address of the node than its primary one.
    NodePortElsewhere,
    NodePortLoopback,
    LoadBalancer,
    ExternalIp,
    /// A port of the `ClusterIP` that the Service lacks.
    UndefinedPort,
    /// The same of a load balancer's or an external address.
    UndefinedExternally,
    /// An address of the range that no Service has.
    Unallocated,
}

/// An address and port to ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) dst: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) affine: bool,
    /// Number of the Service's port, unless a policy gives its addresses several sets of endpoints: one affinity is for
    /// all of a port's addresses.
    pub(crate) affinity: Option<u16>,
    /// An address outside of the cluster, under `externalTrafficPolicy: Local`.
    pub(crate) external_local: bool,
}

impl Target {
    /// Whether a client's affinity is the same for both.
    pub(crate) fn shares_affinity(&self, other: &Self) -> bool {
        let of = |target: &Self| (target.affinity, target.transport, target.dst.is_ipv6());
        self.affinity.is_some() && of(self) == of(other)
    }
}

impl Target {
    /// Whether kube-proxy leads this client to endpoints of other nodes, and Sluice does not: where all Pods' addresses count as
    /// local (`--cluster-cidr`), kube-proxy takes a Pod of another node for one of its own. Upstream's own suite has it as
    /// Sluice does ("should fallback to local terminating endpoints ... externalTrafficPolicy=Local").
    pub(crate) fn is_outside_for_us(&self, who: Who) -> bool {
        self.external_local && who == Who::RemotePod
    }

    /// Whether the client has a way to it, and the question a meaning.
    pub(crate) fn concerns(&self, who: Who) -> bool {
        if who == Who::Strangers && !self.affine {
            return false;
        }
        match self.kind {
            // A Pod of another node has its own node's proxy for these.
            Kind::ClusterIp | Kind::UndefinedPort | Kind::Unallocated => who != Who::RemotePod,
            Kind::NodePortLoopback => who == Who::Host,
            _ => true,
        }
    }
}

fn texts<'a>(list: &'a Value, field: Option<&'a str>) -> impl Iterator<Item = IpAddr> + 'a {
    let text = move |item: &'a Value| field.map_or(item, |field| &item[field]).as_str();
    list.as_array().into_iter().flatten().filter_map(text).filter_map(|text| text.parse().ok())
}

/// Every target of a Service as the API has it.
pub(crate) fn of_service(service: &Value) -> Vec<Target> {
    let spec = &service["spec"];
    let affine = spec["sessionAffinity"] == "ClientIP";
    let local = ["internalTrafficPolicy", "externalTrafficPolicy"].iter().any(|policy| spec[policy] == "Local");
    let cluster_ips: Vec<IpAddr> = texts(&spec["clusterIPs"], None).collect();
    let balancers: Vec<IpAddr> = texts(&service["status"]["loadBalancer"]["ingress"], Some("ip")).collect();
    let external: Vec<IpAddr> = texts(&spec["externalIPs"], None).collect();
    let both = |dual: xtask::lab::Dual| Family::ALL.map(|family| dual.of(family));
    let mut targets = Vec::new();
    for port in spec["ports"].as_array().into_iter().flatten() {
        let transport = match port["protocol"].as_str() {
            Some("TCP") => Transport::Tcp,
            Some("UDP") => Transport::Udp,
            _ => continue,
        };
        let number = |field: &str| port[field].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let service_port = number("port");
        let affinity = (affine && !local).then_some(service_port);
        let mut add = |kind, ips: &[IpAddr], port| {
            let each = ips.iter().map(|ip| SocketAddr::new(*ip, port));
            let external_local = spec["externalTrafficPolicy"] == "Local" && kind != Kind::ClusterIp;
            targets.extend(each.map(|dst| Target { kind, dst, transport, affine, affinity, external_local }));
        };
        add(Kind::ClusterIp, &cluster_ips, service_port);
        add(Kind::LoadBalancer, &balancers, service_port);
        add(Kind::ExternalIp, &external, service_port);
        let node_port = number("nodePort");
        if node_port != 0 {
            add(Kind::NodePort, &both(NODE1_ADDR), node_port);
            add(Kind::NodePortElsewhere, &both(BRIDGE_ADDR), node_port);
            add(Kind::NodePortLoopback, &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], node_port);
        }
    }
    for transport in Transport::ALL {
        let mut add = |kind, ips: &[IpAddr]| {
            targets.extend(ips.iter().map(|ip| Target {
                kind,
                dst: SocketAddr::new(*ip, 4444),
                transport,
                affine: false,
                affinity: None,
                external_local: false,
            }));
        };
        add(Kind::UndefinedPort, &cluster_ips);
        add(Kind::UndefinedExternally, balancers.get(..1).unwrap_or_default());
        add(Kind::UndefinedExternally, external.get(..1).unwrap_or_default());
    }
    targets
}

/// Addresses that no Service has.
pub(crate) fn of_nobody() -> Vec<Target> {
    let ips = [IpAddr::V4(Ipv4Addr::new(10, 96, 255, 250)), "fd00:96::fffa".parse::<IpAddr>().unwrap()];
    let each = |ip| Transport::ALL.map(|transport| (ip, transport));
    ips.into_iter()
        .flat_map(each)
        .map(|(ip, transport)| Target {
            kind: Kind::Unallocated,
            dst: SocketAddr::new(ip, 80),
            transport,
            affine: false,
            affinity: None,
            external_local: false,
        })
        .collect()
}
