//! The choice of a backend, by each algorithm.

use super::affinity::{asked, edges, pair};
use super::{AT_POD, full, opened};
use crate::abi::{Be16, FrontendKey, FrontendValue, SetRef, algorithm, proto};
use crate::testkit::{Endpoint, Family, Scene};

/// What `count` clients get, by their ports: true is the first of the pair.
fn choices<A: Family>(scene: &mut Scene<'_, A>, ports: std::ops::Range<u16>) -> Vec<Vec<bool>> {
    let one = |(hook, client): (_, A), scene: &mut Scene<'_, A>| {
        ports.clone().map(|port| asked(scene, hook, (client, port), (A::LB, 443))).collect()
    };
    edges().into_iter().map(|edge| one(edge, scene)).collect()
}

/// On each processor: a test runs on one.
pub fn round_robin_takes_one_backend_after_the_other<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).algorithm(algorithm::ROUND_ROBIN));
    for got in choices(scene, 40_000..40_040) {
        assert!(got.windows(2).all(|two| two[0] != two[1]), "{got:?}");
    }
}

/// Whatever its ports.
pub fn source_hash_keeps_a_client_at_its_backend<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).algorithm(algorithm::SOURCE_HASH));
    for got in choices(scene, 40_000..40_040) {
        assert!(got.windows(2).all(|two| two[0] == two[1]), "{got:?}");
    }
}

/// Seven slots of eight: of 400 connections 350, give or take seven times the deviation that chance has.
pub fn a_backend_with_more_slots_gets_more<A: Family>(scene: &mut Scene<'_, A>) {
    let [one, other] = pair::<A>();
    let endpoints: Vec<Endpoint<A>> = std::iter::repeat_n(one, 7).chain([other]).collect();
    for algorithm in [algorithm::RANDOM, algorithm::ROUND_ROBIN] {
        scene.serve(&full(proto::TCP, &endpoints).algorithm(algorithm));
        let ports = 40_000 + 1_000 * u16::from(algorithm);
        for got in choices(scene, ports..ports + 400) {
            let first = got.iter().filter(|first| **first).count();
            assert!((304..=396).contains(&first), "{algorithm}: {first}");
        }
    }
}

/// A Service with a table of seven places.
fn maglev<A: Family>(scene: &mut Scene<'_, A>, table: &[u8]) {
    let mut service = full(proto::TCP, &pair()).algorithm(algorithm::MAGLEV);
    service.schedule = u32::try_from(table.len()).unwrap_or(0);
    for base in [service.slots, service.slots + 64] {
        scene.node.set_table(base, table);
    }
    scene.serve(&service);
}

/// The same connection has the same place, others have others.
pub fn maglev_goes_by_the_table_and_the_connection<A: Family>(scene: &mut Scene<'_, A>) {
    maglev(scene, &[1; 7]);
    assert!(choices(scene, 40_000..40_040).iter().flatten().all(|first| !*first));
    maglev(scene, &[0; 7]);
    assert!(choices(scene, 41_000..41_040).iter().flatten().all(|first| *first));
    maglev(scene, &[0, 1, 0, 1, 0, 1, 0]);
    let once = choices(scene, 42_000..42_064);
    assert!(once.iter().all(|got| got.contains(&true) && got.contains(&false)), "{once:?}");
    // Every flow is forgotten.
    scene.node.reset();
    scene.node.set_config(Scene::<A>::config());
    maglev(scene, &[0, 1, 0, 1, 0, 1, 0]);
    assert_eq!(choices(scene, 42_000..42_064), once);
}

/// Two bytes a place, in more than one block.
pub fn maglev_finds_the_members_of_a_large_set<A: Family>(scene: &mut Scene<'_, A>) {
    let places = 2_500_u32;
    let mut service = full(proto::TCP, &pair()).algorithm(algorithm::MAGLEV);
    service.schedule = places;
    scene.serve(&service);
    let set = SetRef { base: 100, count: 300 };
    for slot in 0..set.count {
        scene.node.set_slot(set.base + slot, if slot == 258 { 2 } else { 1 });
    }
    let table: Vec<u8> = (0..places).flat_map(|_| 258_u16.to_le_bytes()).collect();
    scene.node.set_table(set.base, &table);
    for (addr, port, kind) in service.frontends.clone() {
        let key = FrontendKey { addr, port: Be16::new(port), proto: proto::TCP, scope: 0 };
        let value = FrontendValue {
            internal: set,
            external: set,
            service: service.id,
            kind,
            algorithm: algorithm::MAGLEV,
            schedule: places,
            ..FrontendValue::default()
        };
        scene.node.set_frontend(key, Some(value));
    }
    assert!(choices(scene, 40_000..40_064).iter().flatten().all(|first| !*first));
}

/// Or from one that leads out of the set.
pub fn maglev_without_a_table_picks_at_random<A: Family>(scene: &mut Scene<'_, A>) {
    let mut service = full(proto::TCP, &pair()).algorithm(algorithm::MAGLEV);
    service.schedule = 7;
    scene.serve(&service);
    let without = choices(scene, 40_000..40_064);
    maglev(scene, &[9; 7]);
    for got in without.iter().chain(&choices(scene, 41_000..41_064)) {
        assert!(got.contains(&true) && got.contains(&false), "{got:?}");
    }
}

/// The agent may be newer than the programs, for a moment.
pub fn an_algorithm_that_is_not_known_picks_at_random<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).algorithm(200));
    for got in choices(scene, 40_000..40_064) {
        assert!(got.contains(&true) && got.contains(&false), "{got:?}");
        assert!(got.windows(2).any(|two| two[0] == two[1]), "{got:?}");
    }
}

const OTHERS: [u8; 6] = [
    algorithm::ROUND_ROBIN,
    algorithm::MAGLEV,
    algorithm::SOURCE_HASH,
    algorithm::LEAST_CONNECTIONS,
    algorithm::RANDOM,
    200,
];

/// Nor do other endpoints.
pub fn another_algorithm_moves_no_connection<A: Family>(scene: &mut Scene<'_, A>) {
    let trip = opened(scene, AT_POD, proto::TCP);
    for (n, algorithm) in (1..).zip(OTHERS) {
        let mut other = full(proto::TCP, &pair()).algorithm(algorithm);
        other.slots += 128 * n % 384;
        scene.serve(&other);
        trip.talk(scene);
    }
}
