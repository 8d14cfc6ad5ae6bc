//! The rules once more, read as literally as possible from Kubernetes objects, without a thought for cost: what the
//! resolver is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::model::desired::{FrontendKind, NodeFacts, ResolveSettings};

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the conditions of the API are independent")]
pub(super) struct Ep {
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) local: bool,
    pub(super) zone_hints: Vec<String>,
    pub(super) node_hints: Vec<String>,
}

pub(super) type Set = Option<BTreeSet<SocketAddr>>;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Sets {
    pub(super) cluster: Set,
    pub(super) local: Set,
    pub(super) all: Set,
    pub(super) has_any: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Port {
    /// Address to kind, internal local, external local, limited by ranges.
    pub(super) frontends: BTreeMap<SocketAddr, (FrontendKind, bool, bool, bool)>,
    pub(super) sets: Sets,
    pub(super) kept: BTreeSet<SocketAddr>,
    pub(super) terminating: BTreeSet<SocketAddr>,
    pub(super) affinity: u32,
    pub(super) ranges: Vec<String>,
}

fn is_v6(ip: &str) -> bool {
    ip.contains(':')
}

pub(super) fn resolve(
    service: &Service,
    slices: &[EndpointSlice],
    node: &NodeFacts,
    settings: &ResolveSettings,
) -> BTreeMap<(String, String, bool), Port> {
    let mut result = BTreeMap::new();
    let spec = service.spec.clone().unwrap();
    let labels = service.metadata.labels.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName")
        || spec.cluster_ip.as_deref() == Some("None")
        || labels.contains_key("service.kubernetes.io/service-proxy-name")
    {
        return result;
    }
    for v6 in [false, true] {
        let Some(cluster_ip) = spec.cluster_ips.clone().unwrap().into_iter().find(|ip| is_v6(ip) == v6) else {
            continue;
        };
        for port in spec.ports.clone().unwrap() {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let key = (port.name.clone().unwrap_or_default(), protocol, v6);
            result.insert(key, resolve_port(service, &port, &cluster_ip, v6, slices, node, settings));
        }
    }
    result
}

fn resolve_port(
    service: &Service,
    port: &ServicePort,
    cluster_ip: &str,
    v6: bool,
    slices: &[EndpointSlice],
    node: &NodeFacts,
    settings: &ResolveSettings,
) -> Port {
    let spec = service.spec.clone().unwrap();
    let number = u16::try_from(port.port).unwrap();
    let node_port = u16::try_from(port.node_port.unwrap_or_default()).unwrap();
    let mut lb = Vec::new();
    for ingress in service.status.clone().unwrap().load_balancer.unwrap().ingress.unwrap() {
        if let Some(ip) = ingress.ip
            && is_v6(&ip) == v6
            && (ingress.ip_mode.is_none() || ingress.ip_mode.as_deref() == Some("VIP"))
        {
            lb.push(ip);
        }
    }
    let mut external = spec.external_ips.clone().unwrap_or_default();
    external.retain(|ip| is_v6(ip) == v6 && settings.external_ips.served());
    let externally_accessible = node_port != 0 || !lb.is_empty() || !external.is_empty();
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let may_be_external = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || !spec.external_ips.clone().unwrap_or_default().is_empty();
    let external_local = may_be_external && spec.external_traffic_policy.as_deref() == Some("Local");

    let mut ranges: Vec<String> = Vec::new();
    for range in spec.load_balancer_source_ranges.unwrap_or_default() {
        if is_v6(&range) == v6 {
            ranges.push(range.trim().to_owned());
        }
    }
    if ranges.iter().any(|range| range.ends_with("/0")) {
        ranges.clear();
    }

    let mut frontends = BTreeMap::new();
    let address = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    frontends.insert(address(cluster_ip, number), (FrontendKind::ClusterIp, internal_local, internal_local, false));
    for ip in lb {
        frontends.insert(address(&ip, number), (FrontendKind::LoadBalancer, false, external_local, !ranges.is_empty()));
    }
    for ip in external {
        frontends.insert(address(&ip, number), (FrontendKind::ExternalIp, false, external_local, false));
    }
    if node_port != 0 {
        for ip in &node.node_port_addresses {
            if matches!(ip, IpAddr::V6(_)) == v6 {
                frontends
                    .insert(SocketAddr::new(*ip, node_port), (FrontendKind::NodePort, false, external_local, false));
            }
        }
    }

    let endpoints = merge(port, v6, slices, node);
    let uses_cluster = !internal_local || externally_accessible;
    let uses_local = internal_local || (external_local && externally_accessible);
    let affinity = match (spec.session_affinity.as_deref(), spec.session_affinity_config) {
        (Some("ClientIP"), None) => 10_800,
        (Some("ClientIP"), Some(config)) => config.client_ip.unwrap().timeout_seconds.unwrap().unsigned_abs(),
        _ => 0,
    };
    let pick = |wanted: fn(&Ep) -> bool| endpoints.iter().filter(|(_, e)| wanted(e)).map(|(a, _)| *a).collect();
    Port {
        frontends,
        sets: categorize(&endpoints, uses_cluster, uses_local, &node.name, node.zone.as_deref()),
        kept: pick(|e| e.ready || e.serving),
        terminating: pick(|e| e.terminating),
        affinity,
        ranges,
    }
}

fn merge(port: &ServicePort, v6: bool, slices: &[EndpointSlice], node: &NodeFacts) -> BTreeMap<SocketAddr, Ep> {
    let mut all: BTreeMap<SocketAddr, Vec<Ep>> = BTreeMap::new();
    for slice in slices {
        if slice.address_type != if v6 { "IPv6" } else { "IPv4" } {
            continue;
        }
        if slice.metadata.labels.clone().unwrap().contains_key("service.kubernetes.io/headless") {
            continue;
        }
        for slice_port in slice.ports.clone().unwrap() {
            let same_name = slice_port.name.unwrap_or_default() == port.name.clone().unwrap_or_default();
            let tcp = || "TCP".to_owned();
            let same_protocol = slice_port.protocol.unwrap_or_else(tcp) == port.protocol.clone().unwrap_or_else(tcp);
            let number = slice_port.port.unwrap_or_default();
            if !same_name || !same_protocol || number == 0 {
                continue;
            }
            for endpoint in slice.endpoints.clone().unwrap() {
                let conditions = endpoint.conditions.unwrap_or_default();
                let hints = endpoint.hints.unwrap_or_default();
                all.entry(SocketAddr::new(endpoint.addresses[0].parse().unwrap(), u16::try_from(number).unwrap()))
                    .or_default()
                    .push(Ep {
                        ready: conditions.ready.unwrap_or(true),
                        serving: conditions.serving.unwrap_or(true),
                        terminating: conditions.terminating.unwrap_or(false),
                        local: endpoint.node_name.as_ref() == Some(&node.name),
                        zone_hints: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
                        node_hints: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
                    });
            }
        }
    }
    let mut merged = BTreeMap::new();
    for (addr, mut candidates) in all {
        // One that is not terminating wins. The rest is our own promise.
        if candidates.iter().any(|e| !e.terminating) {
            candidates.retain(|e| !e.terminating);
        }
        for wanted in [|e: &Ep| e.ready, |e: &Ep| e.serving, |e: &Ep| e.local] {
            if candidates.iter().any(wanted) {
                candidates.retain(wanted);
            }
        }
        merged.insert(addr, candidates[0].clone());
    }
    merged
}

/// `CategorizeEndpoints`, line by line.
pub(super) fn categorize(
    eps: &BTreeMap<SocketAddr, Ep>,
    uses_cluster: bool,
    uses_local: bool,
    node: &str,
    zone: Option<&str>,
) -> Sets {
    if eps.is_empty() {
        return Sets::default();
    }
    let filter = |wanted: &dyn Fn(&Ep) -> bool| -> BTreeSet<SocketAddr> {
        eps.iter().filter(|(_, e)| wanted(e)).map(|(addr, _)| *addr).collect()
    };
    let mut has_any = false;
    let mut mode = "";
    let mut use_local_terminating = false;
    let mut cluster = None;
    if uses_cluster {
        let ready: Vec<&Ep> = eps.values().filter(|e| e.ready).collect();
        let has_node = |e: &Ep| e.node_hints.iter().any(|hint| hint == node);
        let has_zone = |e: &Ep| zone.is_some_and(|zone| e.zone_hints.iter().any(|hint| hint == zone));
        if ready.iter().all(|e| !e.node_hints.is_empty()) && ready.iter().any(|e| has_node(e)) {
            mode = "PreferSameNode";
        } else if ready.iter().all(|e| !e.zone_hints.is_empty()) && ready.iter().any(|e| has_zone(e)) {
            mode = "PreferSameZone";
        }
        let mut set = match mode {
            "PreferSameNode" => filter(&|e| e.ready && has_node(e)),
            "PreferSameZone" => filter(&|e| e.ready && has_zone(e)),
            _ => filter(&|e| e.ready),
        };
        if set.is_empty() {
            set = filter(&|e| e.serving && e.terminating);
        }
        if !set.is_empty() {
            has_any = true;
        }
        cluster = Some(set);
    }
    if !uses_local {
        return Sets { all: cluster.clone(), cluster, local: None, has_any };
    }
    let (mut local_ready, mut local_terminating) = (false, false);
    for e in eps.values() {
        if e.ready {
            has_any = true;
            if e.local {
                local_ready = true;
            }
        } else if e.serving && e.terminating {
            has_any = true;
            if e.local {
                local_terminating = true;
            }
        }
    }
    let mut local = None;
    if local_ready {
        local = Some(filter(&|e| e.local && e.ready));
    } else if local_terminating {
        local = Some(filter(&|e| e.local && e.serving && e.terminating));
        use_local_terminating = true;
    }
    if !uses_cluster {
        return Sets { cluster: None, all: local.clone(), local, has_any };
    }
    let all = if mode.is_empty() && !use_local_terminating {
        cluster.clone()
    } else {
        Some(cluster.iter().flatten().chain(local.iter().flatten()).copied().collect())
    };
    Sets { cluster, local, all, has_any }
}
