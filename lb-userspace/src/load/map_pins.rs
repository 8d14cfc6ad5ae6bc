//! The pinned maps: whose they are, and whether their layout is this agent's.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError, MapInfo};
use lb_common::abi::{ABI_VERSION, StatusValue, map_name};
use serde::{Deserialize, Serialize};

use super::LoadError;
use super::layouts::{self, Layout};
use super::pins::PinDirectories;
use crate::faults;

/// A pinned map keeps its capacity over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSizeNote {
    /// The map.
    pub map: String,
    /// Capacity asked for.
    pub wanted: u32,
    /// Capacity of the pinned map.
    pub actual: u32,
}

fn map_error(name: &str) -> impl FnOnce(aya::maps::MapError) -> LoadError {
    let name = name.to_owned();
    move |source| LoadError::Map { name, source }
}

/// Opens a pinned map.
pub fn open_map<T>(path: &Path) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let name = path.display().to_string();
    MapData::from_pin(path).and_then(Map::from_map_data).and_then(T::try_from).map_err(map_error(&name))
}

fn open_status(maps: &Path) -> Result<Array<MapData, StatusValue>, LoadError> {
    open_map(&maps.join(map_name::STATUS))
}

/// Pins of another ABI version are not touched. All maps count as foreign when some are there but `STATUS` is not.
pub(super) fn check_abi(directories: &PinDirectories) -> Result<(), LoadError> {
    let is_pinned = layouts::all().iter().any(|layout| directories.maps.join(layout.name).exists());
    if !is_pinned {
        return Ok(());
    }
    let foreign = |found| LoadError::ForeignAbi { path: directories.root.clone(), found, ours: ABI_VERSION };
    if !directories.maps.join(map_name::STATUS).exists() {
        return Err(foreign(0));
    }
    let path = directories.maps.join(map_name::STATUS);
    let info = pinned(&path)?;
    let layout = layouts::all().into_iter().find(|layout| layout.name == map_name::STATUS);
    if usize::try_from(info.value_size()).ok() != Some(size_of::<StatusValue>()) {
        return Err(foreign(0));
    }
    if let Some(layout) = layout {
        check_layout(&layout, &path, &info)?;
    }
    let status = open_status(&directories.maps)?.get(&0, 0).map_err(map_error(map_name::STATUS))?;
    // Zero: an agent made the maps and ended before it wrote anything.
    if status.abi == 0 || status.abi == ABI_VERSION { Ok(()) } else { Err(foreign(status.abi)) }
}

/// Writes this agent's version where none is written yet.
pub(super) fn claim_abi(maps: &Path) -> Result<(), LoadError> {
    let mut map = open_status(maps)?;
    let mut status = map.get(&0, 0).map_err(map_error(map_name::STATUS))?;
    if status.abi == 0 {
        status.abi = ABI_VERSION;
        faults::point("STATUS, first").map_err(|error| map_error(map_name::STATUS)(MapError::IoError(error)))?;
        map.set(0, status, 0).map_err(map_error(map_name::STATUS))?;
    }
    Ok(())
}

/// What is pinned there, if it is a map.
pub(super) fn pinned(path: &Path) -> Result<MapInfo, LoadError> {
    MapInfo::from_pin(path).map_err(|source| LoadError::NoMap { path: path.to_owned(), source })
}

fn check_layout(layout: &Layout, path: &Path, info: &MapInfo) -> Result<(), LoadError> {
    let found = layout.found(info).map_err(|source| LoadError::NoMap { path: path.to_owned(), source })?;
    if found == *layout {
        return Ok(());
    }
    Err(LoadError::ForeignMap { path: path.to_owned(), found: found.to_string(), needed: layout.to_string() })
}
