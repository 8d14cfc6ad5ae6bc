//! Pins that somebody else has put where Sluice's belong: refused by name, with the way out, and left as they are.

use aya::maps::HashMap;
use lb_common::abi::map_name;
use sluice::causes::with_causes;

use super::*;

const MMAPABLE: u32 = 1 << 10;

/// Takes Sluice's pin away, has `put` pin something else in its place, and says why the agent does not start.
fn in_place_of(pins: &Path, name: &str, put: impl FnOnce(&Path)) -> String {
    let path = pins.join("maps").join(name);
    std::fs::remove_file(&path).unwrap();
    put(&path);
    let why = with_causes(&load(&settings(pins)).unwrap_err());
    assert!(why.contains(&format!("remove {}", path.display())) || why.contains("remove the pin"), "{name}: {why}");
    assert!(path.exists(), "{name}: what is not Sluice's is left alone");
    if path.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) }.unwrap();
    why
}

/// What a map held is gone, the others are as they were.
fn starts_without(pins: &Path) {
    load(&settings(pins)).expect("without it the agent starts, and makes the map anew");
}

#[test]
fn what_somebody_else_has_pinned_is_refused_by_name_and_left_alone() {
    on_a_node(|pins| async move {
        let mut loaded = load(&settings(&pins)).unwrap();
        let why = in_place_of(&pins, map_name::CONFIG[0], |path| std::fs::create_dir(path).unwrap());
        assert!(why.contains("CONFIG4"), "{why}");
        starts_without(&pins);

        let program = loaded.programs.get_mut("pod_ingress").unwrap();
        let program: &mut SchedClassifier = program.try_into().unwrap();
        in_place_of(&pins, map_name::FRONTENDS[0], |path| program.pin(path).unwrap());
        starts_without(&pins);

        // A table of another kind with keys and values of the same length, and an array that is cut off.
        let why = in_place_of(&pins, map_name::SLOTS[1], |path| {
            HashMap::<MapData, u32, u32>::create(16, 0).unwrap().pin(path).unwrap();
        });
        assert!(why.contains("is a hash table") && why.contains("needs an array"), "{why}");
        starts_without(&pins);
        let why = in_place_of(&pins, map_name::FRONT_FILTER[0], |path| {
            Array::<MapData, [u64; 8]>::create(16, MMAPABLE).unwrap().pin(path).unwrap();
        });
        assert!(why.contains("16 entries"), "{why}");
        starts_without(&pins);
        // Without it nobody knows whose the others are.
        in_place_of(&pins, map_name::STATUS, |path| {
            HashMap::<MapData, u32, [u8; size_of::<StatusValue>()]>::create(1, 0).unwrap().pin(path).unwrap();
        });
    });
}

#[test]
fn a_foreign_pin_in_the_place_of_a_link_keeps_no_device_from_being_served() {
    on_a_node(|pins| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        drop(load(&settings(&pins)).unwrap());
        HashMap::<MapData, u32, u32>::create(1, 0).unwrap().pin(pins.join("links/veth0:ingress")).unwrap();
        let mut agent = Agent::start(&settings(&pins));
        let served = agent.served("veth0", Role::Pod).await;
        assert_eq!(served.errors, Vec::<String>::new());
        agent.stop().await;
    });
}
