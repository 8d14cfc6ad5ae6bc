//! Maps into which somebody else has written: the agent that takes them over ends in the desired state all the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{FrontendValue, SetRef};
use proptest::prelude::*;

use super::fixtures::{ROOMY, port, upsert};
use super::meaning::check_whole;
use crate::maps::Tables;
use crate::maps::memory::MemoryTables;
use crate::model::family::Family;
use crate::plan::{BackendEntry, Vip};
use crate::reconcile::writer::Writer;

/// Numbers as they occur, at the edges, and any.
fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..12, 1 => 990u32..2010, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn any_set() -> impl Strategy<Value = SetRef> {
    (any_number(), any_number()).prop_map(|(base, count)| SetRef { base, count })
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![(0u8..9).prop_map(|n| IpAddr::from([10, 96, 0, n])), any::<[u8; 4]>().prop_map(IpAddr::from)]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u8..6, 80u16..82).prop_map(|(n, port)| format!("default/svc{n}:p{port}/TCP")),
        Just("elsewhere/gone:http/UDP".to_owned()),
        Just("elsewhere/gone:http/SCTP".to_owned()),
        any::<String>(),
    ]
}

#[derive(Clone, Debug)]
enum Foreign {
    Name(u32, String),
    Backend(u32, BackendEntry),
    Slot(u32, u32),
    Range(u32, u8),
    Frontend(Vip, FrontendValue),
}

fn any_foreign() -> impl Strategy<Value = Foreign> {
    let backend = (1u32..1000, any_address(), any::<u16>(), any_number(), any_number(), any::<u16>());
    let vip =
        (any_address(), prop_oneof![Just(80u16), Just(81), Just(0), any::<u16>()], prop_oneof![Just(6u8), any::<u8>()]);
    let value = (any_set(), any_set(), any_number(), any::<u16>(), 0u8..8, any::<u32>());
    prop_oneof![
        (any_number(), any_name()).prop_map(|(id, name)| Foreign::Name(id, name)),
        backend.prop_map(|(id, addr, port, generation, service, flags)| {
            let addr = SocketAddr::new(addr, port);
            // The kernel's tables take those of generation 0 for free.
            Foreign::Backend(id, BackendEntry { addr, flags, generation: generation.max(1), service, weight: 1 })
        }),
        (0u32..2000, any_number()).prop_map(|(slot, id)| Foreign::Slot(slot, id)),
        (any_number(), 0u8..33).prop_map(|(service, bits)| Foreign::Range(service, bits)),
        (vip, value).prop_map(|((addr, port, proto), (internal, external, service, flags, kind, schedule))| {
            let rest = FrontendValue::default();
            let value = FrontendValue { internal, external, service, flags, kind, schedule, ..rest };
            Foreign::Frontend(Vip { addr, port, proto }, value)
        }),
    ]
}

fn write(tables: &mut MemoryTables, foreign: Foreign) {
    match foreign {
        Foreign::Name(id, name) => drop(tables.names.insert(id, (Family::V4, name))),
        Foreign::Backend(id, entry) => drop(tables.backends.insert((Family::V4, id), entry)),
        Foreign::Slot(slot, id) => drop(tables.slots.insert((Family::V4, slot), id)),
        Foreign::Range(service, bits) => {
            tables.ranges.insert((service, format!("0.0.0.0/{bits}").parse().unwrap()));
        }
        Foreign::Frontend(vip, value) => drop(tables.frontends.insert(vip, value)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn an_agent_that_finds_foreign_entries_ends_in_the_desired_state(
        endpoints in prop::collection::vec(prop::collection::btree_map(0u8..6, 0u8..16, 0..5), 1..5),
        foreign in prop::collection::vec(any_foreign(), 1..12),
    ) {
        let world: BTreeMap<u8, Vec<_>> = (1u8..)
            .zip(endpoints)
            .map(|(n, of)| (n, vec![port(n, 80, &of.into_iter().collect::<Vec<_>>())]))
            .collect();
        let wanted = || world.iter().map(|(n, ports)| upsert(*n, ports.clone())).collect();
        let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
        writer.write_first(wanted());
        let mut tables = writer.tables().clone();
        for foreign in foreign {
            write(&mut tables, foreign);
        }
        // Slots of foreign sets that overlap another are used again by the next agent only: enough are left.
        let claimed = tables.frontends.values().flat_map(|value| [value.internal, value.external]);
        prop_assume!(claimed.filter(|set| set.base < 2_000 && set.count <= 2_000).map(|set| set.count).sum::<u32>() < 1_500);

        let mut next = Writer::restore(tables).unwrap();
        let outcome = next.write_first(wanted());
        prop_assert_eq!(outcome.refused, 0);
        check_whole(next.tables(), &world);
        // What it takes from then on is free.
        next.write(vec![upsert(9, vec![port(9, 80, &[(1, 4), (2, 5), (3, 4)])])]);
        let mut more = world.clone();
        more.insert(9, vec![port(9, 80, &[(1, 4), (2, 5), (3, 4)])]);
        check_whole(next.tables(), &more);
        // And the one after it finds nothing to write.
        let mut last = Writer::restore(next.tables().clone()).unwrap();
        let writes = last.tables().writes;
        last.write_first(more.iter().map(|(n, ports)| upsert(*n, ports.clone())).collect());
        prop_assert_eq!(last.tables().writes, writes);
        prop_assert!(last.tables().read().unwrap().next_generation < u32::MAX);
    }
}
