//! Maps of another size or layout: what is in the former ones comes into the new ones, also when an agent is stopped between.

use aya::maps::HashMap;
use lb_common::abi::{FlowKey, FlowValue, V4, handover, map_name};

use super::*;

/// Few, for the sake of time: one with second stages.
const PROGRAMS: [&str; 1] = ["pod_egress"];
const VALUE: usize = size_of::<FlowValue<V4>>();
const KEY: Key = [1; size_of::<Key>()];
const OTHER: Key = [2; size_of::<Key>()];

type Key = [u8; size_of::<FlowKey<V4>>()];
type Flows<const N: usize> = HashMap<MapData, Key, [u8; N]>;

fn flows<const N: usize>(pins: &Path, folder: &str) -> Flows<N> {
    let map = MapData::from_pin(pins.join(folder).join(map_name::FLOWS[0])).unwrap();
    Flows::try_from(Map::from_map_data(map).unwrap()).unwrap()
}

fn how_far(pins: &Path) -> u32 {
    let map = MapData::from_pin(pins.join("maps").join(map_name::HANDOVER)).unwrap();
    Array::<_, u32>::try_from(Map::from_map_data(map).unwrap()).unwrap().get(&0, 0).unwrap()
}

/// An agent that comes before all others.
fn first(pins: &Path) {
    drop(Loaded::load(&settings(pins).load, &object(), &PROGRAMS).unwrap());
}

/// A successor that has put its maps in the place of the former ones.
fn successor(settings: &Settings) -> Loaded {
    let (mut loaded, turn) = Loaded::load_as_candidate(&settings.load, &object(), |_| PROGRAMS.to_vec()).unwrap();
    loaded.switch(turn).unwrap();
    loaded
}

fn complete(mut loaded: Loaded) {
    loaded.upgrade.take().unwrap().complete(&mut loaded.programs).unwrap();
}

/// In the place of the table of flows: one of another version, with longer or shorter values, and a flow in it.
fn of_another_layout<const N: usize>(pins: &Path, key: Key) {
    let path = pins.join("maps").join(map_name::FLOWS[0]);
    std::fs::remove_file(&path).unwrap();
    let mut other = Flows::<N>::create(1 << 14, 0).unwrap();
    other.insert(key, [7; N], 0).unwrap();
    other.pin(&path).unwrap();
}

#[test]
fn flows_of_a_longer_and_of_a_shorter_layout_are_carried_over() {
    on_a_node(|pins| async move {
        first(&pins);
        of_another_layout::<{ VALUE + 8 }>(&pins, KEY);
        let loaded = successor(&settings(&pins));
        assert_eq!((how_far(&pins), pins.join("former").exists()), (handover::OPEN, true));
        complete(loaded);
        assert_eq!(flows::<VALUE>(&pins, "maps").get(&KEY, 0).unwrap(), [7; VALUE]);
        assert_eq!((how_far(&pins), pins.join("former").exists()), (handover::NONE, false));

        of_another_layout::<{ VALUE - 8 }>(&pins, KEY);
        complete(successor(&settings(&pins)));
        let found = flows::<VALUE>(&pins, "maps").get(&KEY, 0).unwrap();
        assert_eq!(found.split_at(VALUE - 8), ([7; VALUE - 8].as_slice(), [0; 8].as_slice()));
    });
}

/// With twice as much room for flows.
fn larger(pins: &Path) -> Settings {
    let mut larger = settings(pins);
    let entries = larger.load.sizes.of("FLOWS4").unwrap();
    larger.load.sizes.set(&tables::FLOWS, 2 * entries);
    larger
}

#[test]
fn an_agent_that_wants_the_former_layout_takes_the_former_maps_again() {
    on_a_node(|pins| async move {
        first(&pins);
        flows::<VALUE>(&pins, "maps").insert(KEY, [7; VALUE], 0).unwrap();
        drop(successor(&larger(&pins)));
        // As if that one had been of a version with longer values.
        of_another_layout::<{ VALUE + 8 }>(&pins, OTHER);
        complete(successor(&settings(&pins)));
        let found = flows::<VALUE>(&pins, "maps");
        assert_eq!((found.get(&KEY, 0).unwrap()[0], found.get(&OTHER, 0).unwrap()[0]), (7, 7));
        assert!(!pins.join("former").exists());
    });
}

#[test]
fn an_upgrade_that_is_stopped_goes_on_with_the_next_start_and_loses_nothing() {
    on_a_node(|pins| async move {
        first(&pins);
        flows::<VALUE>(&pins, "maps").insert(KEY, [7; VALUE], 0).unwrap();
        let larger = larger(&pins);
        // Before it takes the place: nothing has happened.
        let candidate = Loaded::load_as_candidate(&larger.load, &object(), |_| PROGRAMS.to_vec()).unwrap();
        assert!(pins.join("next").exists());
        drop(candidate);
        let same = successor(&settings(&pins));
        assert!(same.upgrade.is_none() && !pins.join("next").exists());
        drop(same);
        // After it: another one of the same sizes goes on, and one with others as well.
        drop(successor(&larger));
        assert!(pins.join("former").exists());
        flows::<VALUE>(&pins, "former").insert(OTHER, [9; VALUE], 0).unwrap();
        drop(successor(&larger));
        complete(successor(&settings(&pins)));
        assert!(!pins.join("former").exists());
        let carried = flows::<VALUE>(&pins, "maps");
        assert_eq!((carried.get(&KEY, 0).unwrap()[0], carried.get(&OTHER, 0).unwrap()[0]), (7, 9));
        // It kept the sizes that it had found, and changes them with its next start.
        complete(successor(&settings(&pins)));
        assert_eq!(flows::<VALUE>(&pins, "maps").get(&KEY, 0).unwrap()[0], 7);
    });
}
