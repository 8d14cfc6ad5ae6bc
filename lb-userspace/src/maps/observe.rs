//! Facts about the pinned maps that are not Services: fill, capacity, counters.

use std::path::Path;

use aya::maps::MapInfo;

use super::TableFailure;

/// Capacity of a pinned map.
pub fn capacity(dir: &Path, name: &str) -> Result<u32, TableFailure> {
    let path = dir.join(name);
    let info = MapInfo::from_pin(&path).map_err(|source| TableFailure::Open { path, source })?;
    Ok(info.max_entries())
}
