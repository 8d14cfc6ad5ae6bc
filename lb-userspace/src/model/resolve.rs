//! From one Service and its EndpointSlices to what the kernel should do. Pure.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use lb_common::abi::MOST_MEMBERS;

use super::algorithm::{Algorithm, TableSize};
use super::desired::{
    Backend, DesiredPort, DesiredService, ExternalIps, Family, HealthCheck, NodeFacts, PortId, Protocol, Refusal,
    ResolveSettings, ServiceName, WhenEmpty,
};
use super::endpoints::{Sourced, merge};
use super::reason::Reason;
use super::record::{PortRecord, ServiceRecord, SliceRecord};
use super::refusals::Refusals;
use super::topology::{Categories, Endpoint, categorize};
use super::weights;

/// The desired state of one Service, and everything of it and its slices that is not served.
///
/// Knows one Service only: [`super::world::World`] takes away frontends to which another Service has the better claim.
pub fn resolve(
    service: &ServiceRecord,
    slices: &[&SliceRecord],
    node: &NodeFacts,
    settings: &ResolveSettings,
) -> (DesiredService, Vec<Refusal>) {
    let mut ports = Vec::new();
    let mut refusals = service.refusals.to_vec();
    if service.skip.is_none() {
        for port in &service.ports {
            for family in [Family::V4, Family::V6] {
                ports.extend(resolve_port(service, port, family, slices, node, settings, &mut refusals));
            }
        }
    }
    refusals.extend(drop_twins(&mut ports, &service.name).into_rows());
    refusals.extend(unserved(service, node, settings).into_rows());
    refusals.extend(slices.iter().flat_map(|slice| slice.refusals.iter().cloned()));
    let health = health(service, slices, &node.name);
    (DesiredService { name: service.name.clone(), ports, health }, refusals)
}

/// The Service's health check. Every port of the slices counts, also one that the Service does not have; an endpoint that
/// terminates does not, although it may still be served.
fn health(service: &ServiceRecord, slices: &[&SliceRecord], node: &str) -> Option<HealthCheck> {
    if service.skip.is_some() || service.health_node_port == 0 {
        return None;
    }
    let local = |family| {
        service.cluster_ips.iter().any(|ip| Family::of(ip) == family).then(|| {
            let of_family = slices.iter().filter(|slice| slice.family == Some(family));
            let ports: HashSet<_> =
                of_family.flat_map(|slice| &slice.ports).map(|port| (&port.name, port.protocol)).collect();
            let endpoints = ports.iter().flat_map(|(name, protocol)| merge(slices, name, *protocol, family, node));
            let ready: HashSet<_> =
                endpoints.map(|e| e.endpoint).filter(|e| e.ready && e.local).map(|e| e.addr.ip()).collect();
            u32::try_from(ready.len()).unwrap_or(u32::MAX)
        })
    };
    Some(HealthCheck { port: service.health_node_port, local_v4: local(Family::V4), local_v6: local(Family::V6) })
}

/// Two ports of one Service may meet on one address, such as the `NodePort` of one and a load balancer's port of another
/// where the load balancer has the node's address. The first has it.
fn drop_twins(ports: &mut Vec<DesiredPort>, name: &ServiceName) -> Refusals {
    let mut bad = Refusals::of_service(name);
    let mut taken = HashSet::new();
    for port in ports.iter_mut() {
        let protocol = port.id.protocol;
        port.frontends.retain(|frontend| {
            let free = taken.insert((frontend.addr, protocol));
            if !free {
                bad.note(Reason::DuplicateFrontend, || {
                    format!(
                        "{}/{} of port {:?} is not served: another port of the Service has it, give each its own",
                        frontend.addr,
                        protocol.name(),
                        port.id.port_name
                    )
                });
            }
            free
        });
    }
    ports.retain(|port| !port.frontends.is_empty());
    bad
}

fn resolve_port(
    service: &ServiceRecord,
    port: &PortRecord,
    family: Family,
    slices: &[&SliceRecord],
    node: &NodeFacts,
    settings: &ResolveSettings,
    refusals: &mut Vec<Refusal>,
) -> Option<DesiredPort> {
    let frontends = service.frontends(port, family, node, settings);
    if frontends.is_empty() {
        return None;
    }
    let policy = service.policy(port, family, settings);
    let sourced = merge(slices, &port.name, port.protocol, family, &node.name);
    let endpoints: Vec<Endpoint<'_>> = sourced.iter().map(|e| e.endpoint).collect();
    let weights = weights_of(service, &sourced).unwrap_or_else(|wrong| {
        // Each port says the same of the same endpoints.
        if !refusals.contains(&wrong) {
            refusals.push(*wrong);
        }
        None
    });
    let sets = categorize(&endpoints, policy, &node.name, node.zone.as_deref());
    let when_empty = if sets.has_any { WhenEmpty::Drop } else { WhenEmpty::Refuse };
    let (algorithm, table_size) = algorithm(service, settings, endpoints.len()).unwrap_or_else(|wrong| {
        if !refusals.contains(&wrong) {
            refusals.push(*wrong);
        }
        (Algorithm::Random, settings.table_size)
    });
    Some(DesiredPort {
        id: PortId { service: service.name.clone(), port_name: port.name.to_string(), protocol: port.protocol, family },
        frontends,
        backends: backends(&endpoints, &sets, weights.as_deref(), node),
        affinity_secs: service.affinity_secs,
        algorithm,
        table_size,
        ejection: service.spread.as_ref().and_then(|spread| spread.ejection).unwrap_or(settings.ejection),
        cluster_empty: when_empty,
        local_empty: when_empty,
        source_ranges: service.ranges(family),
    })
}

/// The weight of each endpoint, from the Service's annotation and those of the slices that they are taken from. None: all
/// are equal.
fn weights_of(service: &ServiceRecord, endpoints: &[Sourced<'_>]) -> Result<Option<Vec<u16>>, Box<Refusal>> {
    let refuse = |message: String| {
        let mut bad = Refusals::of_service(&service.name);
        bad.note(Reason::BadWeights, || message);
        bad.into_rows().pop().map_or(Ok(None), |refusal| Err(Box::new(refusal)))
    };
    let spread = service.spread.as_ref();
    let of_service = spread.and_then(|spread| spread.weights.as_ref());
    if of_service.is_none() && endpoints.iter().all(|endpoint| endpoint.slice.weights.is_none()) {
        if endpoints.is_empty() || !spread.is_some_and(|spread| spread.weighted) {
            return Ok(None);
        }
        return refuse(
            "the algorithm is weighted, and no annotation weights says how: all endpoints have the same".into(),
        );
    }
    let mut found = Vec::with_capacity(endpoints.len());
    for Sourced { endpoint, slice } in endpoints {
        let ip = endpoint.addr.ip();
        let said = of_service.into_iter().chain(slice.weights.as_deref()).flat_map(|all| all.of(ip, endpoint.pod));
        let said: Vec<u16> = said.collect();
        let weight = said.first().copied().unwrap_or(weights::DEFAULT);
        if let Some(other) = said.iter().find(|other| **other != weight) {
            let why = format!(
                "endpoint {ip} has weight {weight} and weight {other}, by its name, its address or its slice: all \
                 endpoints have the same until one is taken out"
            );
            return refuse(why);
        }
        found.push(weight);
    }
    if !found.is_empty() && found.iter().all(|weight| *weight == 0) {
        let why = "every endpoint has weight 0: all have the same until one has more".to_owned();
        return refuse(why);
    }
    Ok(Some(found))
}

/// How new connections are spread over so many endpoints, and the size of a table.
fn algorithm(
    service: &ServiceRecord,
    settings: &ResolveSettings,
    endpoints: usize,
) -> Result<(Algorithm, TableSize), Box<Refusal>> {
    let spread = service.spread.as_ref();
    let algorithm = spread.and_then(|spread| spread.algorithm).unwrap_or(settings.algorithm);
    let size = spread.and_then(|spread| spread.table_size).unwrap_or(settings.table_size);
    let most = size.get().min(MOST_MEMBERS);
    if algorithm == Algorithm::Maglev && u32::try_from(endpoints).unwrap_or(u32::MAX) > most {
        let message = format!(
            "{endpoints} endpoints are too many for a table of {} places: they are chosen at random",
            size.get()
        );
        let (kind, object) = service.name.object();
        return Err(Box::new(Refusal { kind, object, reason: Reason::BadTableSize, message }));
    }
    Ok((algorithm, size))
}

fn backends(
    endpoints: &[Endpoint<'_>],
    sets: &Categories,
    weights: Option<&[u16]>,
    node: &NodeFacts,
) -> BTreeMap<SocketAddr, Backend> {
    // Both sets are ascending, so membership is a binary search.
    let member = |set: &Option<Vec<usize>>, index| set.as_ref().is_some_and(|set| set.binary_search(&index).is_ok());
    endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| endpoint.ready || endpoint.serving)
        .map(|(index, endpoint)| {
            let backend = Backend {
                local: endpoint.local,
                host_network: node.addresses.contains(&endpoint.addr.ip()),
                terminating: endpoint.terminating,
                in_cluster: member(&sets.cluster, index),
                in_local: member(&sets.local, index),
                weight: weights.and_then(|weights| weights.get(index).copied()).unwrap_or(weights::DEFAULT),
            };
            (endpoint.addr, backend)
        })
        .collect()
}

/// Parts that are sound in themselves but cannot be served as things stand.
fn unserved(service: &ServiceRecord, node: &NodeFacts, settings: &ResolveSettings) -> Refusals {
    let mut bad = Refusals::of_service(&service.name);
    if service.skip.is_some() {
        return bad;
    }
    for port in service.ports.iter().filter(|port| port.protocol == Protocol::Sctp) {
        bad.note(Reason::ProtocolNotServed, || {
            format!("port {:?} ({}) has protocol SCTP, which is not translated: use TCP or UDP", port.name, port.port)
        });
    }
    for port in service.ports.iter().filter(|_| settings.host_ports && !service.pod_ips.is_empty()) {
        if let Some(ip) = port.host_ip.filter(|ip| !ip.is_unspecified())
            && Family::ALL.iter().all(|family| service.frontends(port, *family, node, settings).is_empty())
        {
            bad.note(Reason::HostIpElsewhere, || {
                format!(
                    "hostPort {} is not served: its hostIP {ip} is no address of this node and of a family of the Pod",
                    port.port
                )
            });
        }
    }
    for ip in service.cluster_ips.iter().filter(|ip| node.held.contains(ip)) {
        bad.note(Reason::AnsweredByNode, || {
            format!("{ip} is on a device of this node, which answers there itself (NodeLocal DNSCache): it is left to the node")
        });
    }
    if !settings.external_ips.served() && !service.external_ips.is_empty() {
        bad.note(Reason::ExternalIpsOff, || {
            let why =
                if settings.external_ips == ExternalIps::OffByVersion { ", as from Kubernetes 1.40 on" } else { "" };
            format!(
                "externalIPs are not served{why}: start the agent with --external-ips=on if you trust everyone who may \
                 set them"
            )
        });
    }
    if service.source_ranges_unreadable && !service.load_balancer_ips.is_empty() {
        bad.note(Reason::SourceRangesUnreadable, || {
            "load balancer addresses are not served: not one of loadBalancerSourceRanges could be read".into()
        });
    }
    let external =
        service.load_balancer_ips.iter().chain(service.external_ips.iter().filter(|_| settings.external_ips.served()));
    for ip in external {
        if !service.cluster_ips.iter().any(|cluster| Family::of(cluster) == Family::of(ip))
            && !service.cluster_ips.is_empty()
        {
            bad.note(Reason::WrongFamily, || {
                format!("{ip} is not served: the Service has no clusterIP of its family, add that family to ipFamilies")
            });
        }
    }
    bad
}
