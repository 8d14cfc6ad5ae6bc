//! Single rules of writing, by example.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::FrontendValue;

use super::fixtures::{ROOMY, port, service_name, upsert};
use super::meaning::{check_whole, meaning};
use crate::maps::faulty::FaultyTables;
use crate::maps::memory::MemoryTables;
use crate::model::desired::Change;
use crate::model::family::PerFamily;
use crate::plan::{Existing, Limits, Op, Planner, Vip};
use crate::reconcile::writer::Writer;

#[test]
fn a_frontend_that_moves_between_services_is_never_missing() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4)])])]);
    let mut taken = port(2, 80, &[(2, 4)]);
    taken.frontends = port(1, 80, &[]).frontends;
    let vip = Vip { addr: IpAddr::from([10, 96, 0, 1]), port: 80, proto: 6 };
    for changes in [
        vec![Change::Remove(service_name(1)), upsert(2, vec![taken.clone()])],
        vec![upsert(1, vec![port(1, 80, &[(1, 4)])]), Change::Remove(service_name(2))],
    ] {
        let mut watched = FaultyTables::new(writer.tables().clone());
        watched.fault = Box::new(move |_, op| {
            assert_ne!(*op, Op::DeleteFrontend(vip));
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
    let known = Vip::of_address(IpAddr::from([10, 96, 0, 1]));
    writer.write(vec![upsert(1, vec![port(1, 80, &[]), port(1, 81, &[])])]);
    writer.write(vec![upsert(1, vec![port(1, 81, &[])])]);
    let value: FrontendValue = writer.tables().frontends[&known];
    assert!(writer.tables().names.contains_key(&value.service));
    writer.write(vec![Change::Remove(service_name(1))]);
    assert!(writer.tables().frontends.is_empty());
}

#[test]
fn a_service_that_does_not_fit_is_left_out_and_served_when_room_appears() {
    let limits =
        Limits { services: 10, backends: PerFamily::both(6), slots: PerFamily::both(40), blocks: PerFamily::both(40) };
    let mut writer = Writer::restore(MemoryTables::new(limits)).unwrap();
    let large: Vec<_> = (0..5).map(|host| (host, 4)).collect();
    writer.write(vec![upsert(1, vec![port(1, 80, &[(1, 4)])])]);
    let outcome = writer.write(vec![upsert(2, vec![port(2, 80, &large)]), upsert(3, vec![port(3, 80, &[(1, 4)])])]);
    assert_eq!((outcome.services, outcome.refused), (1, 1));
    let refusal = writer.refusals().next().unwrap().clone();
    assert_eq!((refusal.object.as_str(), refusal.reason.name()), ("default/svc2", "BackendsFull"));
    assert!(refusal.message.contains("--max-backends"));
    let only = BTreeMap::from([(1, vec![port(1, 80, &[(1, 4)])]), (3, vec![port(3, 80, &[(1, 4)])])]);
    check_whole(writer.tables(), &only);

    writer.write(vec![Change::Remove(service_name(1)), Change::Remove(service_name(3))]);
    assert!(writer.take_freed_room());
    writer.retry();
    check_whole(writer.tables(), &BTreeMap::from([(2, vec![port(2, 80, &large)])]));
    assert_eq!(writer.refusals().count(), 0);
}

fn hosts(range: std::ops::Range<u8>) -> Vec<(u8, u8)> {
    range.map(|host| (host, 4)).collect()
}

#[test]
fn endpoints_that_are_gone_make_room_for_those_that_come() {
    let limits = Limits {
        services: 10,
        backends: PerFamily::both(100),
        slots: PerFamily::both(200),
        blocks: PerFamily::both(200),
    };
    let mut writer = Writer::restore(MemoryTables::new(limits)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &hosts(0..60))])]);
    let others = vec![port(1, 80, &hosts(100..160))];
    assert_eq!(writer.write(vec![upsert(1, others.clone())]).refused, 1);
    assert!(writer.tables().backends.values().all(|entry| entry.addr.ip() >= IpAddr::from([10, 1, 0, 100])));
    assert!(writer.take_freed_room());
    assert_eq!(writer.retry().refused, 0);
    check_whole(writer.tables(), &BTreeMap::from([(1, others)]));
}

#[test]
fn of_endpoints_that_do_not_fit_as_many_are_served_as_there_were() {
    let limits =
        Limits { services: 10, backends: PerFamily::both(11), slots: PerFamily::both(40), blocks: PerFamily::both(40) };
    let mut writer = Writer::restore(MemoryTables::new(limits)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &hosts(0..4))])]);
    let many = vec![port(1, 80, &hosts(2..30))];
    writer.write(vec![upsert(1, many.clone())]);
    let mut tries = 0;
    while writer.take_freed_room() {
        tries += 1;
        assert!(tries < 5, "it never comes to rest");
        writer.retry();
    }
    check_whole(writer.tables(), &BTreeMap::from([(1, vec![port(1, 80, &hosts(2..6))])]));
    let refusal = writer.refusals().next().unwrap();
    assert_eq!(refusal.reason.name(), "BackendsFull");
    assert!(
        refusal.message.ends_with("meanwhile new endpoints take the place of those that are gone, and no more"),
        "{}",
        refusal.message
    );
    assert_eq!(writer.retry().writes, 0);
}

#[test]
fn a_set_that_is_too_large_for_the_slots_beside_it_loses_what_is_gone() {
    let limits = Limits {
        services: 10,
        backends: PerFamily::both(100),
        slots: PerFamily::both(50),
        blocks: PerFamily::both(50),
    };
    let mut writer = Writer::restore(MemoryTables::new(limits)).unwrap();
    writer.write(vec![upsert(1, vec![port(1, 80, &hosts(0..40))])]);
    let fewer = vec![port(1, 80, &hosts(1..40))];
    assert_eq!(writer.write(vec![upsert(1, fewer.clone())]).refused, 1);
    assert!(!writer.tables().backends.is_empty());
    assert!(writer.take_freed_room());
    writer.retry();
    check_whole(writer.tables(), &BTreeMap::from([(1, fewer)]));
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

#[test]
fn a_staged_change_that_is_dropped_leaves_nothing_behind() {
    let mut planner = Planner::restore(&ROOMY, Existing::default());
    let change = upsert(1, vec![port(1, 80, &[(1, 4), (2, 4)])]);
    let steps = planner.stage(&change).unwrap().steps().len();
    assert_eq!((planner.services(), planner.slots_in_use().v4), (0, 0));
    planner.begin();
    let staged = planner.stage(&change).unwrap();
    assert_eq!(staged.steps().len(), steps);
    staged.commit();
    assert_eq!((planner.services(), planner.slots_in_use().v4), (1, 2));
}
