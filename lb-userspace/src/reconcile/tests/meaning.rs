//! What maps mean to a client, and what they should mean: a literal reading of the desired state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{SetRef, frontend_flag, frontend_kind};

use crate::maps::memory::MemoryTables;
use crate::maps::{FamilySettings, LiveFlows, TableFailure, Tables};
use crate::model::desired::{Backend, DesiredPort, FrontendKind, SetKind, WhenEmpty};
use crate::model::family::Family;
use crate::plan::{Existing, Limits, Op, Vip};

/// What a client meets at a frontend, without ids.
pub(super) type Meaning = (String, u32, u16, u8, BTreeSet<(SocketAddr, u16)>, BTreeSet<(SocketAddr, u16)>);

/// Every frontend's meaning. Panics when one leads to anything half-written.
pub(super) fn meaning(tables: &MemoryTables) -> BTreeMap<Vip, Meaning> {
    let set = |family: Family, owner: u32, set: SetRef| -> BTreeSet<(SocketAddr, u16)> {
        let ids = tables.ids(family, set);
        let members: BTreeSet<_> = ids
            .iter()
            .map(|id| {
                let entry = tables.backends.get(&(family, *id)).expect("a slot leads to a free backend");
                assert_eq!(entry.service, owner, "a slot leads to another Service's backend");
                (entry.addr, entry.flags)
            })
            .collect();
        assert_eq!(members.len(), ids.len(), "a backend is in a set twice");
        members
    };
    let serving = tables.frontends.iter().filter(|(_, value)| !frontend_kind::is_of_address(value.kind));
    serving
        .map(|(vip, value)| {
            let (_, name) = tables.names.get(&value.service).expect("a frontend's service id has no name");
            let f = vip.family();
            let sets = (set(f, value.service, value.internal), set(f, value.service, value.external));
            (*vip, (name.clone(), value.affinity_secs, value.flags, value.kind, sets.0, sets.1))
        })
        .collect()
}

pub(super) fn expected(world: &BTreeMap<u8, Vec<DesiredPort>>) -> BTreeMap<Vip, Meaning> {
    let mut all = BTreeMap::new();
    for port in world.values().flatten() {
        for f in &port.frontends {
            let set = |kind: SetKind| -> BTreeSet<(SocketAddr, u16)> {
                let of = |b: &Backend| if kind == SetKind::Cluster { b.in_cluster } else { b.in_local };
                let flags = |b: &Backend| {
                    u16::from(b.local)
                        | u16::from(b.terminating) << 1
                        | u16::from(b.in_cluster) << 2
                        | u16::from(b.in_local) << 3
                };
                port.backends.iter().filter(|(_, b)| of(b)).map(|(addr, b)| (*addr, flags(b))).collect()
            };
            let drops = |kind| match kind {
                SetKind::Cluster => port.cluster_empty == WhenEmpty::Drop,
                SetKind::Local => port.local_empty == WhenEmpty::Drop,
            };
            let mut flags = 0;
            if drops(f.internal) {
                flags |= frontend_flag::INTERNAL_EMPTY_DROPS;
            }
            if drops(f.external) {
                flags |= frontend_flag::EXTERNAL_EMPTY_DROPS;
            }
            if f.internal == SetKind::Local {
                flags |= frontend_flag::INTERNAL_LOCAL;
            }
            if f.external == SetKind::Local {
                flags |= frontend_flag::EXTERNAL_LOCAL;
            }
            let kind = match f.kind {
                FrontendKind::ClusterIp => frontend_kind::CLUSTER_IP,
                _ => frontend_kind::NODE_PORT,
            };
            let vip = Vip { addr: f.addr.ip(), port: f.addr.port(), proto: 6 };
            let value = (port.id.to_string(), port.affinity_secs, flags, kind, set(f.internal), set(f.external));
            all.insert(vip, value);
        }
    }
    all
}

pub(super) fn check_whole(tables: &MemoryTables, world: &BTreeMap<u8, Vec<DesiredPort>>) {
    let served = meaning(tables);
    assert_eq!(served, expected(world));
    let ports = || world.values().flatten();
    let names: BTreeSet<_> = tables.names.values().map(|(_, name)| name.clone()).collect();
    assert_eq!(names, ports().map(|p| p.id.to_string()).collect());
    assert_eq!(tables.names.len(), names.len());
    assert_eq!(tables.backends.len(), ports().map(|p| p.backends.len()).sum::<usize>(), "backends leak");
    let ranges: usize = ports().map(|p| p.source_ranges.len()).sum();
    assert_eq!(tables.ranges.len(), ranges);
    let vips: BTreeSet<IpAddr> = ports().map(|p| p.frontends[0].addr.ip()).collect();
    let known: BTreeSet<IpAddr> = tables
        .frontends
        .iter()
        .filter(|(vip, value)| vip.port == 0 && vip.proto == 0 && value.kind == frontend_kind::KNOWN_VIP)
        .map(|(vip, value)| {
            assert!(tables.names.contains_key(&value.service), "a known VIP names a Service that is gone");
            let mut there = served.iter().filter(|(front, _)| front.addr == vip.addr);
            let has_endpoints = there.any(|(_, (.., inside, outside))| !inside.is_empty() || !outside.is_empty());
            assert_eq!(value.flags & frontend_flag::ANSWERS_ECHO != 0, has_endpoints, "echo at {}", vip.addr);
            vip.addr
        })
        .collect();
    assert_eq!(known, vips);
    assert_eq!(tables.rest.vip_range.v4, vips.first().copied().zip(vips.last().copied()));
}

/// Looks at the tables after every single operation, as a packet would.
pub(super) struct Watched(pub(super) MemoryTables);

impl Tables for Watched {
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure> {
        self.0.apply(op)?;
        meaning(&self.0);
        for (vip, value) in &self.0.frontends {
            let range = self.0.rest.vip_range.v4;
            let inside = range.is_some_and(|(lo, hi)| lo <= vip.addr && vip.addr <= hi);
            assert!(value.kind != frontend_kind::KNOWN_VIP || inside, "a known VIP is outside of the range");
        }
        Ok(())
    }
    fn read(&self) -> Result<Existing, TableFailure> {
        self.0.read()
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn settle(&mut self, live: &LiveFlows) -> Result<(), TableFailure> {
        self.0.settle(live)
    }

    fn configure(&mut self, _: Family, _: &FamilySettings) -> Result<(), TableFailure> {
        Ok(())
    }
}
