//! Services as records, and the frontends that a record asks for.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus};

use super::Refusals;
use super::address::{parse_ip, parse_net, unfit_as_vip};
use super::desired::{Family, Frontend, FrontendKind, NodeFacts, Protocol, ResolveSettings, ServiceName, SetKind};
use super::record::{PortRecord, ServiceRecord, Skip};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const AFFINITY_DEFAULT_SECS: u32 = 10_800;
const AFFINITY_MAX_SECS: u32 = 86_400;

/// Where objects without a namespace live.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

impl From<Service> for ServiceRecord {
    fn from(service: Service) -> Self {
        let Service { metadata: meta, spec, status } = service;
        let spec = spec.unwrap_or_default();
        let name = ServiceName {
            namespace: meta.namespace.filter(|ns| !ns.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            name: meta.name.unwrap_or_default(),
        };
        let mut bad = Refusals::of("Service", name.to_string());
        let other_proxy = meta.labels.is_some_and(|labels| labels.contains_key(PROXY_NAME));
        let skip = skip(&spec, other_proxy);
        let mut record = Self {
            created: meta.creation_timestamp.map(|time| time.0.as_second()),
            name,
            skip,
            cluster_ips: Box::default(),
            external_ips: Box::default(),
            load_balancer_ips: Box::default(),
            source_ranges: Box::default(),
            source_ranges_unreadable: false,
            ports: Box::default(),
            internal_local: false,
            external_local: false,
            affinity_secs: 0,
            health_node_port: 0,
            refusals: Box::default(),
        };
        if skip.is_none() {
            record.read(&spec, &status.unwrap_or_default(), &mut bad);
            record.refusals = bad.into_rows().into();
        }
        record
    }
}

fn skip(spec: &ServiceSpec, other_proxy: bool) -> Option<Skip> {
    let none = |ip: &str| ip.eq_ignore_ascii_case("none");
    if other_proxy {
        Some(Skip::OtherProxy)
    } else if spec.type_.as_deref() == Some("ExternalName") {
        Some(Skip::ExternalName)
    } else if spec.cluster_ip.as_deref().is_some_and(none) || spec.cluster_ips.iter().flatten().any(|ip| none(ip)) {
        Some(Skip::Headless)
    } else {
        None
    }
}

impl ServiceRecord {
    fn read(&mut self, spec: &ServiceSpec, status: &ServiceStatus, bad: &mut Refusals) {
        self.cluster_ips = cluster_ips(spec, bad);
        self.external_ips = vips("externalIPs", spec.external_ips.iter().flatten().map(String::as_str), bad);
        let ingress = status.load_balancer.iter().flat_map(|lb| lb.ingress.iter().flatten());
        let ingress = ingress.filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
        let ingress = ingress.filter_map(|ingress| ingress.ip.as_deref()).filter(|ip| !ip.is_empty());
        self.load_balancer_ips = vips("loadBalancer.ingress", ingress, bad);
        self.ports = ports(spec.ports.as_deref().unwrap_or_default(), bad);

        let mut unreadable = false;
        let mut ranges = Vec::new();
        for text in spec.load_balancer_source_ranges.iter().flatten() {
            if let Some(net) = parse_net(text) {
                ranges.push(net);
            } else {
                unreadable = true;
                bad.note("BadSourceRange", || {
                    format!(
                        "loadBalancerSourceRanges has {text:?}, which is no address range: write it as 192.0.2.0/24"
                    )
                });
            }
        }
        self.source_ranges_unreadable = unreadable && ranges.is_empty();
        self.source_ranges = ranges.into();

        self.internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let external = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
            || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        self.external_local = external && spec.external_traffic_policy.as_deref() == Some("Local");
        self.affinity_secs = affinity(spec, bad);
        if self.external_local && spec.type_.as_deref() == Some("LoadBalancer") {
            self.health_node_port = health_node_port(spec, bad);
        }
    }

    /// Whether a port of this family can be reached from outside the cluster by design.
    pub fn externally_accessible(&self, port: &PortRecord, family: Family, settings: &ResolveSettings) -> bool {
        let has = |ips: &[IpAddr]| ips.iter().any(|ip| Family::of(ip) == family);
        port.node_port != 0 || has(&self.load_balancer_ips) || (settings.external_ips && has(&self.external_ips))
    }

    /// The ranges from which load balancer addresses of this family may be reached; empty: from anywhere.
    pub fn ranges(&self, family: Family) -> Vec<IpNet> {
        let of_family = |net: &&IpNet| Family::of(&net.addr()) == family;
        let ranges: Vec<IpNet> = self.source_ranges.iter().filter(of_family).copied().collect();
        if ranges.iter().any(|net| net.prefix_len() == 0) { Vec::new() } else { ranges }
    }

    /// The frontends that a port asks for in a family, in a stable order. Another Service may have a better claim.
    pub fn frontends(
        &self,
        port: &PortRecord,
        family: Family,
        node: &NodeFacts,
        settings: &ResolveSettings,
    ) -> Vec<Frontend> {
        let of = |ips: &[IpAddr], kind, number| {
            let of_family = ips.iter().filter(|ip| Family::of(ip) == family);
            of_family.map(|ip| (SocketAddr::new(*ip, number), kind)).collect::<Vec<_>>()
        };
        let cluster = of(&self.cluster_ips, FrontendKind::ClusterIp, port.port);
        if cluster.is_empty() {
            // A Service without a ClusterIP of a family is not in that family at all.
            return Vec::new();
        }
        let mut wanted = cluster;
        if !self.source_ranges_unreadable {
            wanted.extend(of(&self.load_balancer_ips, FrontendKind::LoadBalancer, port.port));
        }
        if settings.external_ips {
            wanted.extend(of(&self.external_ips, FrontendKind::ExternalIp, port.port));
        }
        if port.node_port != 0 {
            wanted.extend(of(&node.node_port_addresses, FrontendKind::NodePort, port.node_port));
            if node.loopback_node_ports {
                wanted.extend(of(&[family.loopback()], FrontendKind::NodePort, port.node_port));
            }
        }
        let internal_set = if self.internal_local { SetKind::Local } else { SetKind::Cluster };
        let external_set = if self.external_local { SetKind::Local } else { SetKind::Cluster };
        // One address in two fields, such as an external IP that is also the load balancer's: the first field counts.
        let mut seen = Vec::with_capacity(wanted.len());
        wanted.retain(|(addr, _)| {
            !seen.contains(addr) && {
                seen.push(*addr);
                true
            }
        });
        let limited = !self.ranges(family).is_empty();
        wanted
            .into_iter()
            .map(|(addr, kind)| match kind {
                FrontendKind::ClusterIp => {
                    Frontend { addr, kind, internal: internal_set, external: internal_set, source_ranges: false }
                }
                // Clients inside the cluster are short-circuited past externalTrafficPolicy.
                _ => Frontend {
                    addr,
                    kind,
                    internal: SetKind::Cluster,
                    external: external_set,
                    source_ranges: limited && kind == FrontendKind::LoadBalancer,
                },
            })
            .collect()
    }
}

fn cluster_ips(spec: &ServiceSpec, bad: &mut Refusals) -> Box<[IpAddr]> {
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str).filter(|ip| !ip.is_empty());
    let mut texts: Vec<&str> = listed.collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty()));
    }
    if texts.is_empty() {
        bad.note("NoClusterIp", || {
            "the Service has no clusterIP: set spec.clusterIP (or None for a headless Service)".to_owned()
        });
    }
    let mut ips: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for ip in vips("clusterIPs", texts.into_iter(), bad) {
        match ips.iter().find(|other| Family::of(other) == Family::of(&ip)) {
            Some(first) => bad.note("SecondClusterIp", || {
                format!(
                    "clusterIPs has {ip} beside {first} of the same family: only {first} is served, keep one a family"
                )
            }),
            None => ips.push(ip),
        }
    }
    ips.into()
}

fn vips<'a>(field: &str, texts: impl Iterator<Item = &'a str>, bad: &mut Refusals) -> Box<[IpAddr]> {
    let mut ips = Vec::new();
    for text in texts {
        match parse_ip(text) {
            None => {
                bad.note("BadAddress", || {
                    format!("{field} has {text:?}, which is no IP address: correct or remove it")
                });
            }
            Some(ip) => match unfit_as_vip(&ip) {
                Some(why) => bad.note("UnfitAddress", || {
                    format!("{field} has {ip}, which is {why} and cannot be a Service's: use another address")
                }),
                None if ips.contains(&ip) => {}
                None => ips.push(ip),
            },
        }
    }
    ips.into()
}

fn ports(ports: &[ServicePort], bad: &mut Refusals) -> Box<[PortRecord]> {
    let mut records: Vec<PortRecord> = Vec::with_capacity(ports.len());
    for port in ports {
        let name = port.name.as_deref().unwrap_or_default();
        let Some(protocol) = parse_protocol(port.protocol.as_deref()) else {
            let given = port.protocol.as_deref().unwrap_or_default();
            bad.note("UnknownProtocol", || {
                format!("port {name:?} ({}) has protocol {given:?}: use TCP, UDP or SCTP", port.port)
            });
            continue;
        };
        let Some(number) = parse_port(port.port) else {
            bad.note("BadPort", || format!("port {name:?} has number {}: use 1 to 65535", port.port));
            continue;
        };
        let node_port = match port.node_port {
            None | Some(0) => 0,
            Some(wanted) => parse_port(wanted).unwrap_or_else(|| {
                bad.note("BadNodePort", || format!("port {name:?} has nodePort {wanted}: use 1 to 65535"));
                0
            }),
        };
        let twin = |other: &&PortRecord| {
            other.protocol == protocol
                && (&*other.name == name || other.port == number || (node_port != 0 && other.node_port == node_port))
        };
        if let Some(twin) = records.iter().find(twin) {
            bad.note("DuplicatePort", || {
                format!(
                    "port {name:?} ({number}/{0}) has the name, number or nodePort of port {1:?} ({2}/{0}): \
                     only the first is served, give each its own",
                    protocol.name(),
                    twin.name,
                    twin.port,
                )
            });
            continue;
        }
        records.push(PortRecord { name: name.into(), protocol, port: number, node_port });
    }
    records.into()
}

fn affinity(spec: &ServiceSpec, bad: &mut Refusals) -> u32 {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let Some(given) = config.and_then(|config| config.timeout_seconds) else {
        return AFFINITY_DEFAULT_SECS;
    };
    match u32::try_from(given) {
        Ok(secs) if (1..=AFFINITY_MAX_SECS).contains(&secs) => secs,
        _ => {
            bad.note("BadAffinityTimeout", || {
                format!("sessionAffinityConfig has timeoutSeconds {given}: {AFFINITY_DEFAULT_SECS} is used, give 1 to {AFFINITY_MAX_SECS}")
            });
            AFFINITY_DEFAULT_SECS
        }
    }
}

fn health_node_port(spec: &ServiceSpec, bad: &mut Refusals) -> u16 {
    let given = spec.health_check_node_port.unwrap_or_default();
    if given == 0 {
        return 0;
    }
    parse_port(given).unwrap_or_else(|| {
        bad.note("BadHealthCheckNodePort", || format!("healthCheckNodePort is {given}: use 1 to 65535"));
        0
    })
}

/// A protocol by its name; TCP when not given.
pub(super) fn parse_protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// A port number other than 0.
pub(super) fn parse_port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
