//! Maps as they must be: sizes of keys and values, against which pins are checked before they are trusted, and the
//! making of those that no program declares.
#![allow(
    clippy::wildcard_imports,
    reason = "the catalogue names every type of the module, and so does what follows it"
)]

use std::fmt;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError, MapInfo, MapType};
use lb_common::abi::table::{Carried, Kind, Map, Size, Table};
use lb_common::abi::*;

use super::{LoadError, MapSizes};
use crate::faults;

/// Kind and sizes of one map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    /// Map name.
    pub(super) name: &'static str,
    /// Kind.
    pub(super) kind: MapType,
    /// Bytes of a key.
    pub(super) key: u32,
    /// Bytes of a value.
    pub(super) value: u32,
    /// Entries, where their number is part of the meaning.
    pub(super) entries: Option<u32>,
}

impl Layout {
    /// What a pinned map is, as far as it has to be what is wanted.
    pub(super) fn found(&self, info: &MapInfo) -> Result<Self, MapError> {
        Ok(Self {
            name: self.name,
            kind: info.map_type()?,
            key: info.key_size(),
            value: info.value_size(),
            entries: self.entries.map(|_| info.max_entries()),
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MapType::Hash => "a hash table",
            MapType::LruHash => "an LRU hash table",
            MapType::LpmTrie => "an LPM trie",
            MapType::Array => "an array",
            MapType::PerCpuArray => "a per-CPU array",
            MapType::ProgramArray => "an array of programs",
            MapType::RingBuf => "a ring buffer",
            _ => "a map of another kind",
        };
        write!(f, "{kind} with keys of {} and values of {} bytes", self.key, self.value)?;
        self.entries.map_or(Ok(()), |entries| write!(f, ", {entries} entries"))
    }
}

const fn map_type(kind: Kind) -> MapType {
    match kind {
        Kind::Hash => MapType::Hash,
        Kind::LruHash => MapType::LruHash,
        Kind::LpmTrie => MapType::LpmTrie,
        Kind::Array => MapType::Array,
        Kind::PerCpuArray => MapType::PerCpuArray,
        Kind::ProgramArray => MapType::ProgramArray,
        Kind::RingBuf => MapType::RingBuf,
    }
}

/// All pinned maps.
pub(super) fn all() -> Vec<Layout> {
    let layouts = |table: &'static Table| {
        let (kind, entries) =
            (map_type(table.kind), if let Size::Fixed(entries) = table.size { Some(entries) } else { None });
        table.maps.iter().map(move |&Map { name, key, value, .. }| Layout { name, kind, key, value, entries })
    };
    tables::all().filter(|table| table.pinned).flat_map(layouts).collect()
}

/// Whether each agent makes such a map for itself.
pub(super) fn is_own(map: &str) -> bool {
    tables::of_map(map).is_some_and(|table| table.carried == Carried::Own)
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
                    let io_failed = |source| LoadError::Map { name: name.to_owned(), source: MapError::IoError(source) };
                    faults::point("pin of a map").map_err(io_failed)?;
                    map.pin(&path).map_err(|source| LoadError::PinMap { name: name.to_owned(), source })?;
                }
            })*
            Ok(())
        }
    };
}

lb_common::tables!(agent, of_agent);
