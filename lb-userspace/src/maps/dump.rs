//! The one text form of what the Service maps hold: stable, sorted, for golden files and for people.

use std::collections::BTreeMap;

use lb_common::abi::{SetRef, backend_flag, frontend_flag, frontend_kind};

use crate::model::desired::Family;
use crate::plan::Existing;

/// Names of backend flags.
pub fn backend_flags(flags: u16) -> Vec<&'static str> {
    let names = [
        (backend_flag::LOCAL, "local"),
        (backend_flag::TERMINATING, "terminating"),
        (backend_flag::IN_CLUSTER, "in-cluster-set"),
        (backend_flag::IN_LOCAL, "in-local-set"),
        (backend_flag::HOST_NETWORK, "host-network"),
    ];
    names.into_iter().filter_map(|(bit, name)| (flags & bit != 0).then_some(name)).collect()
}

/// Name of a frontend kind.
pub const fn kind(kind: u8) -> &'static str {
    match kind {
        frontend_kind::CLUSTER_IP => "ClusterIP",
        frontend_kind::NODE_PORT => "NodePort",
        frontend_kind::LOAD_BALANCER => "LoadBalancer",
        frontend_kind::EXTERNAL_IP => "ExternalIP",
        frontend_kind::KNOWN_VIP => "KnownVIP",
        _ => "unknown",
    }
}

/// Name of a protocol.
pub fn protocol(number: u8) -> String {
    match number {
        lb_common::abi::proto::TCP => "TCP".to_owned(),
        lb_common::abi::proto::UDP => "UDP".to_owned(),
        lb_common::abi::proto::SCTP => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

/// Names of frontend flags.
pub fn frontend_flags(flags: u16) -> Vec<&'static str> {
    let names = [
        (frontend_flag::INTERNAL_EMPTY_DROPS, "internal-empty-drops"),
        (frontend_flag::EXTERNAL_EMPTY_DROPS, "external-empty-drops"),
        (frontend_flag::INTERNAL_LOCAL, "internal-local"),
        (frontend_flag::EXTERNAL_LOCAL, "external-local"),
        (frontend_flag::SOURCE_RANGES, "source-ranges"),
    ];
    names.into_iter().filter_map(|(bit, name)| (flags & bit != 0).then_some(name)).collect()
}

/// Everything as text, a line a thing. Ids appear as they are; slots do not, they mean nothing.
pub fn text(existing: &Existing) -> String {
    let names: BTreeMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let name = |service: u32| names.get(&service).copied().unwrap_or("-");
    let sets: BTreeMap<(Family, u32, u32), &[u32]> =
        existing.sets.iter().map(|(family, set, ids)| ((*family, set.base, set.count), &**ids)).collect();
    let set = |family: Family, set: SetRef| -> String {
        let ids = sets.get(&(family, set.base, set.count)).copied().unwrap_or_default();
        let mut ids: Vec<u32> = ids.to_vec();
        ids.sort_unstable();
        format!("{ids:?}")
    };
    let mut lines = Vec::new();
    for (vip, value) in &existing.frontends {
        let flags = frontend_flags(value.flags).join(",");
        lines.push(format!(
            "frontend {}:{}/{} {} {} internal={} external={} affinity={} flags={flags}",
            bracketed(vip),
            vip.port,
            protocol(vip.proto),
            kind(value.kind),
            name(value.service),
            set(vip.family(), value.internal),
            set(vip.family(), value.external),
            value.affinity_secs,
        ));
    }
    for (_, id, entry) in &existing.backends {
        let flags = backend_flags(entry.flags).join(",");
        let (addr, generation) = (entry.addr, entry.generation);
        lines.push(format!("backend {addr} id={id} generation={generation} {} flags={flags}", name(entry.service)));
    }
    for (service, net) in &existing.ranges {
        lines.push(format!("range {net} {}", name(*service)));
    }
    for (service, family, name) in &existing.names {
        lines.push(format!("service {name} {family:?} id={service}"));
    }
    lines.sort_unstable();
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn bracketed(vip: &crate::plan::Vip) -> String {
    if vip.addr.is_ipv6() { format!("[{}]", vip.addr) } else { vip.addr.to_string() }
}
