//! Random histories of changes against a literal reading of the desired state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{FrontendValue, SetRef, frontend_flag, frontend_kind};
use proptest::prelude::*;

use super::{Existing, Limits};
use crate::maps::Tables;
use crate::maps::faulty::FaultyTables;
use crate::maps::memory::MemoryTables;
use crate::model::desired::{
    Backend, Change, DesiredPort, DesiredService, Family, Frontend, FrontendKind, PortId, Protocol, ServiceName,
    SetKind, WhenEmpty,
};
use crate::reconcile::Writer;

pub(crate) const ROOMY: Limits = Limits { services: 1000, backends: [1000; 2], slots: [2000; 2] };

pub(crate) fn service_name(n: u8) -> ServiceName {
    ServiceName { namespace: "default".into(), name: format!("svc{n}") }
}

pub(crate) fn backend(bits: u8) -> Backend {
    Backend {
        local: bits & 1 != 0,
        host_network: false,
        terminating: bits & 2 != 0,
        in_cluster: bits & 4 != 0,
        in_local: bits & 1 != 0 && bits & 8 != 0,
    }
}

/// A port of service `n` with its `ClusterIP` and a node port, and endpoints `10.1.0.x`.
pub(crate) fn port(n: u8, port: u16, endpoints: &[(u8, u8)]) -> DesiredPort {
    let frontend = |addr: IpAddr, port, kind, external| Frontend {
        addr: SocketAddr::new(addr, port),
        kind,
        internal: SetKind::Cluster,
        external,
        source_ranges: kind == FrontendKind::LoadBalancer,
    };
    let cluster_ip = IpAddr::from([10, 96, 0, n]);
    let node = IpAddr::from([192, 0, 2, 1]);
    DesiredPort {
        id: PortId {
            service: service_name(n),
            port_name: format!("p{port}"),
            protocol: Protocol::Tcp,
            family: Family::V4,
        },
        frontends: vec![
            frontend(cluster_ip, port, FrontendKind::ClusterIp, SetKind::Cluster),
            frontend(node, 30000 + u16::from(n) * 10 + port % 10, FrontendKind::NodePort, SetKind::Local),
        ],
        backends: endpoints
            .iter()
            .map(|(host, bits)| (SocketAddr::new(IpAddr::from([10, 1, 0, *host]), 8080), backend(*bits)))
            .collect(),
        affinity_secs: 0,
        cluster_empty: WhenEmpty::Refuse,
        local_empty: WhenEmpty::Drop,
        source_ranges: Vec::new(),
    }
}

pub(crate) fn upsert(n: u8, ports: Vec<DesiredPort>) -> Change {
    Change::Upsert(DesiredService { name: service_name(n), ports, health: None })
}

/// What a client meets at a frontend, without ids.
type Meaning = (String, u32, u16, u8, BTreeSet<(SocketAddr, u16)>, BTreeSet<(SocketAddr, u16)>);

/// Every frontend's meaning. Panics when one leads to anything half-written.
fn meaning(tables: &MemoryTables) -> BTreeMap<super::Vip, Meaning> {
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
    let serving = tables.frontends.iter().filter(|(_, value)| value.kind != frontend_kind::KNOWN_VIP);
    serving
        .map(|(vip, value)| {
            let (_, name) = tables.names.get(&value.service).expect("a frontend's service id has no name");
            let f = vip.family();
            let sets = (set(f, value.service, value.internal), set(f, value.service, value.external));
            (*vip, (name.clone(), value.affinity_secs, value.flags, value.kind, sets.0, sets.1))
        })
        .collect()
}

fn expected(world: &BTreeMap<u8, Vec<DesiredPort>>) -> BTreeMap<super::Vip, Meaning> {
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
            let vip = super::Vip { addr: f.addr.ip(), port: f.addr.port(), proto: 6 };
            let value = (port.id.to_string(), port.affinity_secs, flags, kind, set(f.internal), set(f.external));
            all.insert(vip, value);
        }
    }
    all
}

fn check_whole(tables: &MemoryTables, world: &BTreeMap<u8, Vec<DesiredPort>>) {
    assert_eq!(meaning(tables), expected(world));
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
            vip.addr
        })
        .collect();
    assert_eq!(known, vips);
    assert_eq!(tables.rest.vip_range[0], vips.first().copied().zip(vips.last().copied()));
}

/// Looks at the tables after every single operation, as a packet would.
struct Watched(MemoryTables);

impl Tables for Watched {
    fn apply(&mut self, op: &super::Op) -> Result<(), crate::maps::TableFailure> {
        self.0.apply(op)?;
        meaning(&self.0);
        for (vip, value) in &self.0.frontends {
            let range = self.0.rest.vip_range[0];
            let inside = range.is_some_and(|(lo, hi)| lo <= vip.addr && vip.addr <= hi);
            assert!(value.kind != frontend_kind::KNOWN_VIP || inside, "a known VIP is outside of the range");
        }
        Ok(())
    }
    fn read(&self) -> Result<Existing, crate::maps::TableFailure> {
        self.0.read()
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn configure(&mut self, _: Family, _: &crate::maps::FamilySettings) -> Result<(), crate::maps::TableFailure> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Event {
    Set(u8, Vec<DesiredPort>),
    Remove(u8),
    /// The agent is replaced by a new one, which hears of everything again.
    Restart,
}

fn any_port(n: u8, number: u16) -> impl Strategy<Value = DesiredPort> {
    let endpoints = prop::collection::btree_map(0u8..6, 0u8..16, 0..5);
    let ranges = prop::collection::btree_set(8u8..12, 0..3);
    (endpoints, 0u32..2, any::<bool>(), ranges, any::<bool>()).prop_map(
        move |(endpoints, affinity_secs, node_port, ranges, drop)| {
            let mut port = port(n, number, &endpoints.into_iter().collect::<Vec<_>>());
            port.affinity_secs = affinity_secs;
            port.frontends.truncate(if node_port { 2 } else { 1 });
            port.local_empty = if drop { WhenEmpty::Drop } else { WhenEmpty::Refuse };
            port.source_ranges = ranges.iter().map(|bits| format!("172.16.0.0/{bits}").parse().unwrap()).collect();
            port
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let set = (1u8..5).prop_flat_map(|n| {
        let ports = (prop::option::of(any_port(n, 80)), prop::option::of(any_port(n, 81)));
        ports.prop_map(move |(a, b)| Event::Set(n, a.into_iter().chain(b).collect()))
    });
    prop_oneof![6 => set, 1 => (1u8..5).prop_map(Event::Remove), 1 => Just(Event::Restart)]
}

fn to_change(event: &Event, world: &mut BTreeMap<u8, Vec<DesiredPort>>) -> Change {
    match event {
        Event::Set(n, ports) => {
            world.insert(*n, ports.clone());
            upsert(*n, ports.clone())
        }
        Event::Remove(n) => {
            world.remove(n);
            Change::Remove(service_name(*n))
        }
        Event::Restart => unreachable!("handled by the caller"),
    }
}

fn identities(tables: &MemoryTables) -> BTreeMap<(String, SocketAddr), (u32, u32)> {
    let name = |service: u32| tables.names[&service].1.clone();
    tables.backends.iter().map(|((_, id), e)| ((name(e.service), e.addr), (*id, e.generation))).collect()
}

fn run_history(batches: &[Vec<Event>]) {
    let mut writer = Writer::restore(Watched(MemoryTables::new(ROOMY))).unwrap();
    let mut world: BTreeMap<u8, Vec<DesiredPort>> = BTreeMap::new();
    for batch in batches {
        let before = identities(&writer.tables().0);
        for event in batch.iter().filter(|event| matches!(event, Event::Restart)) {
            let _ = event;
            writer = Writer::restore(Watched(writer.tables().0.clone())).unwrap();
            let written = writer.tables().0.writes;
            let all = world.iter().map(|(n, ports)| upsert(*n, ports.clone())).collect();
            writer.write_first(all);
            assert_eq!(writer.tables().0.writes, written, "a restart without a change writes nothing");
        }
        let mut changes: BTreeMap<ServiceName, Change> = BTreeMap::new();
        for event in batch.iter().filter(|event| !matches!(event, Event::Restart)) {
            let change = to_change(event, &mut world);
            let (Change::Upsert(DesiredService { name, .. }) | Change::Remove(name)) = &change;
            changes.insert(name.clone(), change);
        }
        let outcome = writer.write(changes.into_values().collect());
        assert_eq!(outcome.refused, 0);
        check_whole(&writer.tables().0, &world);
        let after = identities(&writer.tables().0);
        for (key, id) in &before {
            assert!(after.get(key).is_none_or(|now| now == id), "{key:?} changed its identity");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_the_desired_state(
        batches in prop::collection::vec(prop::collection::vec(any_event(), 1..4), 1..12)
    ) {
        run_history(&batches);
    }

    #[test]
    fn an_agent_that_dies_after_any_write_leaves_what_the_next_one_completes(
        first in prop::collection::vec(any_event(), 1..5),
        second in prop::collection::vec(any_event(), 1..5),
        die_after in 0usize..60,
    ) {
        let mut world = BTreeMap::new();
        let changes = |events: &[Event], world: &mut BTreeMap<_, _>| -> Vec<Change> {
            let events = events.iter().filter(|e| !matches!(e, Event::Restart));
            let all: BTreeMap<u8, Change> = events.map(|e| {
                let (Event::Set(n, _) | Event::Remove(n)) = e else { unreachable!() };
                (*n, to_change(e, world))
            }).collect();
            all.into_values().collect()
        };
        let mut writer = Writer::restore(Watched(MemoryTables::new(ROOMY))).unwrap();
        writer.write(changes(&first, &mut world));
        let before = identities(&writer.tables().0);

        // The process is gone after this many writes: nothing more happens, no undo either.
        let mut dying = FaultyTables::new(Watched(writer.tables().0.clone()));
        dying.fault = Box::new(move |count, _| count > die_after);
        let mut dying = Writer::restore(dying).unwrap();
        dying.write(changes(&second, &mut world));

        let left = dying.tables().inner.0.clone();
        let mut next = Writer::restore(Watched(left)).unwrap();
        next.write_first(world.iter().map(|(n, ports)| upsert(*n, ports.clone())).collect());
        check_whole(&next.tables().0, &world);
        let after = identities(&next.tables().0);
        for (key, (id, generation)) in &before {
            if let Some((now_id, now_generation)) = after.get(key) {
                // Either untouched, or it was gone in between and has a new generation.
                prop_assert!(now_generation > generation || (now_id, now_generation) == (id, generation));
            }
        }
    }

    #[test]
    fn a_failing_write_costs_only_its_own_service(
        first in prop::collection::vec(any_event(), 1..5),
        ports in any_port(9, 80),
        fail_at in 1usize..20,
    ) {
        let mut world = BTreeMap::new();
        let mut writer = Writer::restore(FaultyTables::new(Watched(MemoryTables::new(ROOMY)))).unwrap();
        for event in first.iter().filter(|e| !matches!(e, Event::Restart)) {
            writer.write(vec![to_change(event, &mut world)]);
        }
        let base = writer.tables().count;
        writer.tables().fault = Box::new(move |count, _| count == base + fail_at);
        let outcome = writer.write(vec![upsert(9, vec![ports.clone()])]);
        if outcome.refused == 1 {
            check_whole(&writer.tables().inner.0, &world);
            prop_assert_eq!(writer.refusals().count(), 1);
            prop_assert!(writer.pending());
            writer.tables().fault = Box::new(|_, _| false);
            writer.retry();
        }
        writer.write(Vec::new());
        world.insert(9, vec![ports]);
        check_whole(&writer.tables().inner.0, &world);
        prop_assert_eq!(writer.refusals().count(), 0);
    }
}

#[test]
fn a_frontend_that_moves_between_services_is_never_missing() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4)])])]);
    let mut taken = port(2, 80, &[(2, 4)]);
    taken.frontends = port(1, 80, &[]).frontends;
    let vip = super::Vip { addr: IpAddr::from([10, 96, 0, 1]), port: 80, proto: 6 };
    for changes in [
        vec![Change::Remove(service_name(1)), upsert(2, vec![taken.clone()])],
        vec![upsert(1, vec![port(1, 80, &[(1, 4)])]), Change::Remove(service_name(2))],
    ] {
        let mut watched = FaultyTables::new(writer.tables().clone());
        watched.fault = Box::new(move |_, op| {
            assert_ne!(*op, super::Op::DeleteFrontend(vip));
            false
        });
        let mut mover = Writer::restore(watched).unwrap();
        mover.write(changes);
        let tables = mover.tables().inner.clone();
        assert!(tables.frontends.contains_key(&vip));
        assert_eq!(tables.names.len(), 1);
        assert_eq!(tables.backends.len(), 1);
        meaning(&tables);
        writer = Writer::restore(tables).unwrap();
    }
}

#[test]
fn nothing_is_written_for_what_did_not_change() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    let change = || vec![upsert(1, vec![port(1, 80, &[(1, 4), (2, 4)]), port(1, 81, &[(1, 13)])])];
    assert!(writer.write(change()).writes > 0);
    assert_eq!(writer.write(change()).writes, 0);
}

#[test]
fn one_endpoint_more_writes_a_set_and_its_frontends_only() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4)])])]);
    let outcome = writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4), (2, 4)])])]);
    // Backend, slots, two frontends.
    assert_eq!(outcome.writes, 4);
}

#[test]
fn a_known_vip_stays_while_one_port_of_it_does() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    let known = super::Vip::known(IpAddr::from([10, 96, 0, 1]));
    writer.write(vec![upsert(1, vec![port(1, 80, &[]), port(1, 81, &[])])]);
    writer.write(vec![upsert(1, vec![port(1, 81, &[])])]);
    let value: FrontendValue = writer.tables().frontends[&known];
    assert!(writer.tables().names.contains_key(&value.service));
    writer.write(vec![Change::Remove(service_name(1))]);
    assert!(writer.tables().frontends.is_empty());
}

#[test]
fn a_service_that_does_not_fit_is_left_out_and_served_when_room_appears() {
    let limits = Limits { services: 10, backends: [6; 2], slots: [40; 2] };
    let mut writer = Writer::restore(MemoryTables::new(limits)).unwrap();
    let large: Vec<_> = (0..5).map(|host| (host, 4)).collect();
    writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4)])])]);
    let outcome = writer.write(vec![upsert(2, vec![port(2, 80, &large)]), upsert(3, vec![port(3, 80, &[(1, 4)])])]);
    assert_eq!((outcome.services, outcome.refused), (1, 1));
    let refusal = writer.refusals().next().unwrap().clone();
    assert_eq!((refusal.object.as_str(), refusal.reason), ("default/svc2", "BackendsFull"));
    assert!(refusal.message.contains("--max-backends"));
    let only = BTreeMap::from([(1, vec![port(1, 80, &[(1, 4)])]), (3, vec![port(3, 80, &[(1, 4)])])]);
    check_whole(writer.tables(), &only);

    writer.write(vec![Change::Remove(service_name(1)), Change::Remove(service_name(3))]);
    assert!(writer.take_freed_room());
    writer.retry();
    check_whole(writer.tables(), &BTreeMap::from([(2, vec![port(2, 80, &large)])]));
    assert_eq!(writer.refusals().count(), 0);
}

#[test]
fn a_full_frontend_map_keeps_the_previous_state_of_the_service() {
    let mut tables = MemoryTables::new(ROOMY);
    tables.frontend_limit = 3;
    let mut writer = Writer::restore(tables).unwrap();
    let before = BTreeMap::from([(1, vec![port(1, 80, &[(1, 4)])])]);
    writer.write(vec![upsert(1, before[&1].clone())]);
    let wanted = vec![port(1, 80, &[(2, 4)]), port(1, 81, &[(3, 4)])];
    assert_eq!(writer.write(vec![upsert(1, wanted)]).refused, 1);
    assert!(writer.refusals().next().unwrap().message.contains("--max-frontends"));
    check_whole(writer.tables(), &before);
}
