//! Random histories of changes against a literal reading of the desired state.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::fixtures::{ROOMY, port, service_name, upsert};
use super::meaning::{Watched, check_whole};
use crate::maps::faulty::FaultyTables;
use crate::maps::memory::MemoryTables;
use crate::model::desired::{Change, DesiredPort, DesiredService, ServiceName, WhenEmpty};
use crate::reconcile::writer::Writer;

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
