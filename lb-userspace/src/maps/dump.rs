//! The one text form of what the Service maps hold: stable, sorted, for golden files and for people.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use lb_common::abi::{FrontendValue, SetRef, algorithm, backend_flag, config_flag, frontend_flag, frontend_kind};

use super::FamilySettings;
use crate::model::algorithm::Algorithm;
use crate::model::desired::Family;
use crate::plan::{BackendEntry, Existing, Vip};

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
        frontend_kind::ADDRESS => "Address",
        _ => "unknown",
    }
}

/// Name of an algorithm.
pub fn algorithm_name(number: u8) -> &'static str {
    Algorithm::of_number(number).map_or("unknown", Algorithm::name)
}

/// Members of a set that its slots lead to, each once, in the order of their first slot.
pub fn members(slots: &[u32]) -> Vec<u32> {
    let mut seen = HashSet::with_capacity(slots.len());
    slots.iter().copied().filter(|id| seen.insert(*id)).collect()
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
        (frontend_flag::NODE_ADDRESS, "node-address"),
        (frontend_flag::ANSWERS_ECHO, "answers-echo"),
    ];
    names.into_iter().filter_map(|(bit, name)| (flags & bit != 0).then_some(name)).collect()
}

/// Everything as text, a line a thing, in the order in which a packet would ask for it. Backends are named by their
/// address where a frontend leads to them; slots and service ids do not appear, they mean nothing.
pub fn text(existing: &Existing) -> String {
    let names: BTreeMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let reader = Reader { existing, names };
    let mut out = String::new();
    for lines in [reader.services(), reader.frontends(), reader.backends(), reader.ranges(), reader.addresses()] {
        out.extend(lines.iter().flat_map(|line| [line.trim_end(), "\n"]));
    }
    out
}

/// The settings of the data path for one family as text.
pub fn settings(family: Family, settings: &FamilySettings) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let nets = |nets: &[IpNet]| list(nets.iter().map(ToString::to_string).collect());
    let node = settings.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
    let line = format!(
        "settings {family:?} node={node} cluster={} services={} flags={}",
        nets(&settings.cluster),
        nets(&settings.services),
        list(config_flags(settings.flags).into_iter().map(str::to_owned).collect()),
    );
    line + "\n"
}

/// Names of flags of the data path's settings.
fn config_flags(flags: u32) -> Vec<&'static str> {
    let names = [
        (config_flag::DETECT_LOCAL, "detect-local"),
        (config_flag::LOCAL_DEVICES, "local-devices"),
        (config_flag::TAKEOVER, "takeover"),
        (config_flag::MASQUERADE_ALL, "masquerade-all"),
        (config_flag::SOCKETS_HOST_ONLY, "sockets-host-only"),
        (config_flag::SOCKETS_OPT_OUT, "sockets-opt-out"),
        (config_flag::NO_RETRY, "no-retry"),
        (config_flag::NO_ECHO, "no-echo"),
        (config_flag::NO_SILENCE, "no-silence-detection"),
    ];
    names.into_iter().filter_map(|(bit, name)| (flags & bit != 0).then_some(name)).collect()
}

/// What tables hold, with names at hand.
struct Reader<'a> {
    existing: &'a Existing,
    names: BTreeMap<u32, &'a str>,
}

impl Reader<'_> {
    fn name(&self, service: u32) -> &str {
        self.names.get(&service).copied().unwrap_or("-")
    }

    fn services(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.existing.names.iter().map(|(_, family, name)| format!("service {name} {family:?}")).collect();
        lines.sort_unstable();
        lines
    }

    fn frontends(&self) -> Vec<String> {
        let mut frontends: Vec<_> =
            self.existing.frontends.iter().filter(|(vip, _)| *vip != Vip::of_address(vip.addr)).collect();
        frontends.sort_unstable_by_key(|(vip, _)| *vip);
        let line = |(vip, value): &&(Vip, FrontendValue)| {
            let mut line = format!(
                "frontend {}/{} {} {} inside={} outside={}",
                SocketAddr::new(vip.addr, vip.port),
                protocol(vip.proto),
                kind(value.kind),
                self.name(value.service),
                self.set(
                    vip.family(),
                    value.internal,
                    value.flags & frontend_flag::INTERNAL_LOCAL != 0,
                    value.flags & frontend_flag::INTERNAL_EMPTY_DROPS != 0
                ),
                self.set(
                    vip.family(),
                    value.external,
                    value.flags & frontend_flag::EXTERNAL_LOCAL != 0,
                    value.flags & frontend_flag::EXTERNAL_EMPTY_DROPS != 0
                ),
            );
            if value.affinity_secs != 0 {
                line.extend([" affinity=", &value.affinity_secs.to_string(), "s"]);
            }
            if value.algorithm != algorithm::RANDOM {
                line.extend([" algorithm=", algorithm_name(value.algorithm)]);
            }
            if value.schedule != 0 {
                line.extend([" places=", &value.schedule.to_string()]);
            }
            if value.flags & frontend_flag::SOURCE_RANGES != 0 {
                line += " source-ranges";
            }
            if value.flags & frontend_flag::NODE_ADDRESS != 0 {
                line += " node-address";
            }
            line
        };
        frontends.iter().map(line).collect()
    }

    /// Policy and members of a set, or what becomes of a client when it has none.
    fn set(&self, family: Family, set: SetRef, local: bool, drops: bool) -> String {
        let policy = if local { "local" } else { "cluster" };
        let found = self.existing.sets.iter().find(|(f, s, _)| (*f, *s) == (family, set));
        let Some((_, _, ids)) = found else {
            return format!("{policy}:{}", if drops { "drop" } else { "refuse" });
        };
        let address = |id: &u32| {
            let backend = self.existing.backends.iter().find(|(f, known, _)| (f, known) == (&family, id));
            backend.map_or_else(|| format!("free id {id}"), |(_, _, entry)| entry.addr.to_string())
        };
        format!("{policy}[{}]", members(ids).iter().map(address).collect::<Vec<_>>().join(" "))
    }

    fn backends(&self) -> Vec<String> {
        let mut backends: Vec<_> = self.existing.backends.iter().collect();
        backends.sort_unstable_by_key(|(_, id, entry)| (self.name(entry.service), entry.addr, *id));
        let line = |(_, id, entry): &&(Family, u32, BackendEntry)| {
            let (name, flags) = (self.name(entry.service), backend_flags(entry.flags).join(","));
            let weight = if entry.weight == 1 { String::new() } else { format!(" weight={}", entry.weight) };
            format!("backend {} {name} id={id} generation={} {flags}{weight}", entry.addr, entry.generation)
        };
        backends.iter().map(line).collect()
    }

    fn ranges(&self) -> Vec<String> {
        let line = |(service, net): &(u32, IpNet)| format!("range {} {net}", self.name(*service));
        let mut lines: Vec<String> = self.existing.ranges.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    /// Addresses' own entries: `known` are those of which unknown ports are refused, and the range in which they are looked
    /// for.
    fn addresses(&self) -> Vec<String> {
        let is_own = |(vip, _): &&(Vip, FrontendValue)| *vip == Vip::of_address(vip.addr);
        let mut own: Vec<_> = self.existing.frontends.iter().filter(is_own).collect();
        own.sort_unstable_by_key(|(vip, _)| vip.addr);
        let line = |(vip, value): &(Vip, FrontendValue)| {
            let what = if value.kind == frontend_kind::KNOWN_VIP { "known" } else { "address" };
            let echo = if value.flags & frontend_flag::ANSWERS_ECHO == 0 { "" } else { " echo" };
            let limited = if value.flags & frontend_flag::SOURCE_RANGES == 0 { "" } else { " source-ranges" };
            format!("{what} {}{echo}{limited}", vip.addr)
        };
        let ranges = self
            .existing
            .vip_range
            .iter()
            .filter_map(|(_, range)| *range)
            .map(|(lo, hi)| format!("known-range {lo} to {hi}"));
        own.into_iter().map(line).chain(ranges).collect()
    }
}
