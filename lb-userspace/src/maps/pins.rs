//! Opens pinned maps, and says what a failed call on one means.

use std::path::Path;

use aya::maps::{Map, MapData, MapError};

use super::failure::TableFailure;
use crate::faults;

/// Opens a pin as a typed map.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(dir: &Path, name: &str) -> Result<T, TableFailure> {
    let path = dir.join(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| TableFailure::Open { path, source })
}

/// Opens a pin as it is, for reading in batches.
pub(super) fn open_raw(dir: &Path, name: &str) -> Result<MapData, TableFailure> {
    let path = dir.join(name);
    MapData::from_pin(&path).map_err(|source| TableFailure::Open { path, source })
}

/// Tells a full map from a failed write.
pub(super) fn write_failure(map: &'static str, source: MapError) -> TableFailure {
    let errno = match &source {
        MapError::SyscallError(failed) => failed.io_error.raw_os_error(),
        MapError::OutOfBounds { .. } => Some(libc::E2BIG),
        _ => None,
    };
    match errno {
        Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => TableFailure::Full { map },
        _ => TableFailure::Write { map, source },
    }
}

/// A place at which a test may let a write fail, as if the kernel had no memory for it.
pub(super) fn fault(map: &'static str) -> Result<(), TableFailure> {
    faults::point(map).map_err(|_no_memory| TableFailure::Full { map })
}

/// Removing what is not there is no failure.
pub(super) fn removed(map: &'static str, result: Result<(), MapError>) -> Result<(), TableFailure> {
    match result {
        Err(MapError::SyscallError(failed)) if failed.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => other.map_err(|source| TableFailure::Write { map, source }),
    }
}

/// What becomes of the error of a read.
pub(super) fn read_failure(map: &'static str) -> impl Fn(MapError) -> TableFailure {
    move |source| TableFailure::Read { map, source }
}

/// A 64-bit cookie as the maps have it, low half first.
pub(crate) fn halves(cookie: u64) -> [u32; 2] {
    [cookie & u64::from(u32::MAX), cookie >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

/// The cookie that a map has in two halves.
pub(super) fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
