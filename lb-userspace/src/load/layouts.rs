//! Maps as they must be: sizes of keys and values, against which pins are checked before they are trusted, and the
//! making of those that no program declares.
#![allow(
    clippy::wildcard_imports,
    reason = "the catalogue names every type of the module, and so does what follows it"
)]

use std::fmt;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData};
use lb_common::abi::table::{Map, Table};
use lb_common::abi::*;

use super::{LoadError, MapSizes};

/// Sizes of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Map name.
    pub(super) name: &'static str,
    /// Bytes of a key.
    pub(super) key: u32,
    /// Bytes of a value.
    pub(super) value: u32,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys of {} and values of {} bytes", self.key, self.value)
    }
}

/// All pinned maps.
pub(super) fn all() -> Vec<Layout> {
    let pinned = tables::all().filter(|table| table.pinned).flat_map(|table| table.maps);
    pinned.map(|&Map { name, key, value, .. }| Layout { name, key, value }).collect()
}

macro_rules! create {
    (Hash $key:ty, $value:ty, $entries:expr, $flags:expr) => {
        HashMap::<MapData, $key, $value>::create($entries, $flags)
    };
    (Array $key:ty, $value:ty, $entries:expr, $flags:expr) => {
        Array::<MapData, $value>::create($entries, $flags)
    };
}

macro_rules! of_agent {
    ($($(#[$doc:meta])* $table:ident $accessor:ident [$map:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        /// Makes and pins the agent's own maps, as far as they are missing: the data path never reads them, so they are
        /// not in the object.
        pub(super) fn create_missing(dir: &Path, sizes: &MapSizes) -> Result<(), LoadError> {
            $({
                let Table { flags, .. } = tables::$table;
                let (name, path) = (map_name::$table, dir.join(map_name::$table));
                if !path.exists() {
                    let entries = sizes.of(name).unwrap_or(tables::$table.entries_in_object());
                    let map = create!($kind $key, $value, entries, flags);
                    let map = map.map_err(|source| LoadError::Map { name: name.to_owned(), source })?;
                    map.pin(&path).map_err(|source| LoadError::PinMap { name: name.to_owned(), source })?;
                }
            })*
            Ok(())
        }
    };
}

lb_common::tables!(agent, of_agent);
