//! Where the maps of an upgrade are pinned: `next` while they are made, `maps` those in use, `former` those that are left.
//! Whole folders change their names, so what is there tells how far an agent came that was stopped.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use aya::maps::{Array, MapData, MapError, MapInfo};
use lb_common::abi::{handover, map_name};

use super::steps::{failed, step};
use crate::load::layouts;
use crate::load::{LoadError, open_map};

pub(super) const MAPS: &str = "maps";
pub(in crate::load) const NEXT: &str = "next";
pub(super) const FORMER: &str = "former";
/// Whichever of them is there.
pub const ALL: [&str; 3] = [MAPS, NEXT, FORMER];

/// How far an agent came that was stopped in an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Standing {
    /// No agent was, or what it had made did not count yet.
    Settled,
    /// Flows begin in `maps`, and there are some in `former`.
    Open,
}

/// Whether flows are being carried over.
pub fn is_under_way(pin_path: &Path) -> bool {
    pin_path.join(FORMER).exists()
}

/// Brings the folders into one of two states. Whoever calls it is the only one that starts.
pub(in crate::load) fn recover(root: &Path) -> Result<Standing, LoadError> {
    let (maps, next, former) = (root.join(MAPS), root.join(NEXT), root.join(FORMER));
    if maps.exists() && former.exists() {
        remove(&next)?;
        match handover(&maps)? {
            handover::OPEN => return Ok(Standing::Open),
            // Nothing has begun in the new maps.
            handover::PREPARED => rename(&maps, &next)?,
            // All was done but this.
            _ => remove(&former)?,
        }
    }
    if !maps.exists() && former.exists() {
        rename(&former, &maps)?;
    }
    if next.exists() && maps.exists() && !former.exists() && handover(&maps)? == handover::OPEN {
        // Stopped while both were changing places.
        rename(&next, &former)?;
        return Ok(Standing::Open);
    }
    remove(&next)?;
    Ok(Standing::Settled)
}

/// Makes the folder for the new maps, with those in it that stay.
pub(super) fn make_next(root: &Path, replaced: &BTreeSet<&'static str>) -> Result<(), LoadError> {
    let (maps, next) = (root.join(MAPS), root.join(NEXT));
    remove(&next)?;
    fs::create_dir_all(&next).map_err(|source| LoadError::CreateDirectory { path: next.clone(), source })?;
    for layout in layouts::all() {
        let from = maps.join(layout.name);
        if replaced.contains(layout.name) || layouts::is_own(layout.name) || !from.exists() {
            continue;
        }
        step("upgrade, pin of a map that stays")?;
        let map = |source| LoadError::Map { name: layout.name.to_owned(), source };
        let data = MapData::from_pin(&from).map_err(map)?;
        data.pin(next.join(layout.name))
            .map_err(|source| LoadError::PinMap { name: layout.name.to_owned(), source })?;
    }
    Ok(())
}

/// `next` takes the place of `maps`, which are the former ones then.
pub(super) fn switch(root: &Path) -> Result<(), LoadError> {
    rename(&root.join(MAPS), &root.join(FORMER))?;
    rename(&root.join(NEXT), &root.join(MAPS))
}

/// The former maps are those in use again, and the other way round.
pub(super) fn swap(root: &Path) -> Result<(), LoadError> {
    rename(&root.join(MAPS), &root.join(NEXT))?;
    rename(&root.join(FORMER), &root.join(MAPS))?;
    rename(&root.join(NEXT), &root.join(FORMER))
}

/// Maps that are not the same in both folders.
pub(super) fn different(one: &Path, other: &Path) -> Result<BTreeSet<&'static str>, LoadError> {
    let id = |dir: &Path, name: &str| {
        let path = dir.join(name);
        let info = MapInfo::from_pin(&path).map_err(|source| LoadError::NoMap { path, source })?;
        Ok::<_, LoadError>(info.id())
    };
    let mut different = BTreeSet::new();
    for layout in layouts::all() {
        let name = layout.name;
        let is_in_both = one.join(name).exists() && other.join(name).exists();
        if is_in_both && !layouts::is_own(name) && id(one, name)? != id(other, name)? {
            different.insert(name);
        }
    }
    Ok(different)
}

pub(super) fn remove_next(root: &Path) -> Result<(), LoadError> {
    remove(&root.join(NEXT))
}

pub(super) fn remove_former(root: &Path) -> Result<(), LoadError> {
    remove(&root.join(FORMER))
}

type Word = Array<MapData, u32>;

/// The word that says how far a successor is.
pub(super) fn handover(maps: &Path) -> Result<u32, LoadError> {
    let path = maps.join(map_name::HANDOVER);
    if !path.exists() {
        return Ok(handover::NONE);
    }
    open_map::<Word>(&path)?.get(&0, 0).map_err(map_error)
}

pub(super) fn set_handover(maps: &Path, word: u32) -> Result<(), LoadError> {
    step("upgrade, HANDOVER")?;
    open_map::<Word>(&maps.join(map_name::HANDOVER))?.set(0, word, 0).map_err(map_error)
}

fn map_error(source: MapError) -> LoadError {
    LoadError::Map { name: map_name::HANDOVER.to_owned(), source }
}

fn rename(from: &Path, to: &Path) -> Result<(), LoadError> {
    step("upgrade, folder")?;
    fs::rename(from, to).map_err(failed("folder of maps"))
}

fn remove(dir: &Path) -> Result<(), LoadError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("removing maps"))?,
    };
    for entry in entries {
        step("upgrade, removal")?;
        entry.and_then(|entry| fs::remove_file(entry.path())).map_err(failed("removing maps"))?;
    }
    step("upgrade, removal of a folder")?;
    fs::remove_dir(dir).map_err(failed("removing maps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders of an agent that was stopped before flows began in its maps, with the map of this name in each.
    fn stopped(folders: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (folder, map) in folders {
            fs::create_dir(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join(map), "").unwrap();
        }
        root
    }

    #[test]
    fn maps_that_were_never_in_use_go_and_those_that_were_are_back_in_their_place() {
        for folders in [&[(MAPS, "old"), (NEXT, "new")][..], &[(FORMER, "old"), (NEXT, "new")], &[(FORMER, "old")]] {
            let root = stopped(folders);
            assert_eq!(recover(root.path()).unwrap(), Standing::Settled);
            assert!(root.path().join(MAPS).join("old").exists(), "{folders:?}");
            assert!(!root.path().join(NEXT).exists() && !is_under_way(root.path()), "{folders:?}");
        }
    }

    #[test]
    fn former_maps_that_nobody_needs_any_more_go() {
        let root = stopped(&[(MAPS, "new"), (FORMER, "old")]);
        assert_eq!(recover(root.path()).unwrap(), Standing::Settled);
        assert!(root.path().join(MAPS).join("new").exists() && !is_under_way(root.path()));
    }

    #[test]
    fn a_start_without_pins_has_nothing_to_recover() {
        let root = stopped(&[]);
        assert_eq!(recover(root.path()).unwrap(), Standing::Settled);
        assert!(!root.path().join(MAPS).exists());
    }
}
