//! Services as records.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus};

use super::annotations;
use super::api_object::{ApiObject, Scope, Selector, Wait};
use super::fields::{namespace, parse_port, parse_protocol};
use crate::model::address::{parse_ip, parse_net, unfit_as_vip};
use crate::model::desired::{Family, ServiceName};
use crate::model::reason::Reason;
use crate::model::record::{Kind, PortRecord, ServiceRecord, Skip};
use crate::model::refusals::Refusals;

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const AFFINITY_DEFAULT_SECS: u32 = 10_800;
const AFFINITY_MAX_SECS: u32 = 86_400;

impl ApiObject for Service {
    type Record = ServiceRecord;
    const KIND: Kind = Kind::Service;
    const IN_MANIFESTS: bool = true;
    const WAIT: Wait = Wait::Always;

    fn selector(_: &Scope<'_>) -> Option<Selector> {
        // A Service that gains the label shows up as deleted, which is what is wanted.
        Some(Selector::Labels("!service.kubernetes.io/service-proxy-name"))
    }
}

impl From<Service> for ServiceRecord {
    fn from(service: Service) -> Self {
        let Service { metadata: meta, spec, status } = service;
        let spec = spec.unwrap_or_default();
        let name = ServiceName { namespace: namespace(meta.namespace), name: meta.name.unwrap_or_default() };
        let mut bad = Refusals::of("Service", name.to_string());
        let other_proxy = meta.labels.is_some_and(|labels| labels.contains_key(PROXY_NAME));
        let skip = skip(&spec, other_proxy);
        let created = meta.creation_timestamp.map(|time| time.0.as_second());
        let mut record = Self { created, skip, ..Self::empty(name) };
        if skip.is_none() {
            record.read(&spec, &status.unwrap_or_default(), &mut bad);
            record.spread = meta.annotations.and_then(|annotations| annotations::spread(&annotations, &mut bad));
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
                bad.note(Reason::BadSourceRange, || {
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
}

fn cluster_ips(spec: &ServiceSpec, bad: &mut Refusals) -> Box<[IpAddr]> {
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str).filter(|ip| !ip.is_empty());
    let mut texts: Vec<&str> = listed.collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty()));
    }
    if texts.is_empty() {
        bad.note(Reason::NoClusterIp, || {
            "the Service has no clusterIP: set spec.clusterIP (or None for a headless Service)".to_owned()
        });
    }
    let mut ips: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for ip in vips("clusterIPs", texts.into_iter(), bad) {
        match ips.iter().find(|other| Family::of(other) == Family::of(&ip)) {
            Some(first) => bad.note(Reason::SecondClusterIp, || {
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
                bad.note(Reason::BadAddress, || {
                    format!("{field} has {text:?}, which is no IP address: correct or remove it")
                });
            }
            Some(ip) => match unfit_as_vip(&ip) {
                Some(why) => bad.note(Reason::UnfitAddress, || {
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
            bad.note(Reason::UnknownProtocol, || {
                format!("port {name:?} ({}) has protocol {given:?}: use TCP, UDP or SCTP", port.port)
            });
            continue;
        };
        let Some(number) = parse_port(port.port) else {
            bad.note(Reason::BadPort, || format!("port {name:?} has number {}: use 1 to 65535", port.port));
            continue;
        };
        let node_port = match port.node_port {
            None | Some(0) => 0,
            Some(wanted) => parse_port(wanted).unwrap_or_else(|| {
                bad.note(Reason::BadNodePort, || format!("port {name:?} has nodePort {wanted}: use 1 to 65535"));
                0
            }),
        };
        let twin = |other: &&PortRecord| {
            other.protocol == protocol
                && (&*other.name == name || other.port == number || (node_port != 0 && other.node_port == node_port))
        };
        if let Some(twin) = records.iter().find(twin) {
            bad.note(Reason::DuplicatePort, || {
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
        records.push(PortRecord { name: name.into(), protocol, port: number, node_port, host_ip: None });
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
            bad.note(Reason::BadAffinityTimeout, || {
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
        bad.note(Reason::BadHealthCheckNodePort, || format!("healthCheckNodePort is {given}: use 1 to 65535"));
        0
    })
}
