//! What is in a map comes into another one of its kind. A value of another layout is cut, or made longer with zeros: fields are
//! only ever added at the end, and zero says that they are not known.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, MapData, MapType};
use lb_common::abi::StatsValue;

use super::steps::step;
use crate::linux::bpf_map::{self, EntrySize, ONLY_NEW};
use crate::load::{LoadError, open_map};

/// Entries read in one system call.
const CHUNK: usize = 1024;
/// What programs write while it is carried over is looked for this often.
const PASSES: u32 = 4;

/// A pinned map as bytes.
#[derive(Debug)]
pub(super) struct Content {
    name: String,
    data: MapData,
    kind: MapType,
    size: EntrySize,
    entries: u32,
}

/// What programs had counted when the cells were copied.
pub(super) type Counts = BTreeMap<u32, StatsValue>;

impl Content {
    pub(super) fn open(name: &str, dir: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Map { name: name.to_owned(), source };
        let data = MapData::from_pin(dir.join(name)).map_err(failed)?;
        let info = data.info().map_err(failed)?;
        let kind = info.map_type().map_err(failed)?;
        let bytes = |bytes: u32| usize::try_from(bytes).unwrap_or(0);
        let mut value = bytes(info.value_size());
        if kind == MapType::PerCpuArray {
            let processors =
                aya::util::nr_cpus().map_err(|(_, source)| failed(aya::maps::MapError::IoError(source)))?;
            value = value.next_multiple_of(8) * processors;
        }
        let size = EntrySize { key: bytes(info.key_size()), value };
        Ok(Self { name: name.to_owned(), kind, size, entries: info.max_entries(), data })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    fn failed(&self) -> impl Fn(io::Error) -> LoadError + '_ {
        |source| LoadError::Carry { map: self.name.clone(), source }
    }

    fn is_array(&self) -> bool {
        matches!(self.kind, MapType::Array | MapType::PerCpuArray)
    }

    /// Calls `each` with every entry that says something: not with zeros in an array.
    fn each(&self, mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> Result<(), LoadError> {
        let is_array = self.is_array();
        let mut some = |key: &[u8], value: &[u8]| {
            if is_array && value.iter().all(|byte| *byte == 0) { Ok(()) } else { each(key, value) }
        };
        let walked = match self.kind {
            MapType::PerCpuArray | MapType::LpmTrie => self.each_by_key(some),
            _ => {
                let mut result = Ok(());
                let walked = bpf_map::walk(self.fd(), self.size, CHUNK, |keys, values| {
                    let mut entries = keys.chunks_exact(self.size.key).zip(values.chunks_exact(self.size.value));
                    result = entries.try_for_each(|(key, value)| some(key, value));
                    if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                walked.and(result)
            }
        };
        walked.map_err(self.failed())
    }

    fn each_by_key(&self, mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut key, mut value) = (vec![0; self.size.key], vec![0; self.size.value]);
        let mut last: Option<Vec<u8>> = None;
        while bpf_map::next_key(self.fd(), last.as_deref(), &mut key)? {
            if bpf_map::read(self.fd(), &key, &mut value)? {
                each(&key, &value)?;
            }
            last = Some(key.clone());
        }
        Ok(())
    }

    /// Entries; of an array as many as reach to the last one that says something.
    pub(super) fn used(&self) -> Result<u64, LoadError> {
        let mut used = 0;
        let is_array = self.is_array();
        self.each(|key, _| {
            used = if is_array { used.max(index(key) + 1) } else { used + 1 };
            Ok(())
        })?;
        Ok(used)
    }

    /// Writes what is here to another map; how many entries were new there.
    fn copy_to(&self, other: &Self, flags: u64) -> Result<u64, LoadError> {
        let mut copied = 0;
        self.each(|key, value| {
            if other.is_array() && index(key) >= u64::from(other.entries) {
                return Ok(());
            }
            let mut value = value.to_vec();
            value.resize(other.size.value, 0);
            copied += u64::from(bpf_map::write(other.fd(), key, &value, flags)?);
            Ok(())
        })?;
        Ok(copied)
    }
}

/// An array's key.
fn index(key: &[u8]) -> u64 {
    key.try_into().map_or(0, |key| u64::from(u32::from_ne_bytes(key)))
}

/// Fills a new map with what is in the former one. Gives the counts that were copied, of maps with counts.
pub(super) fn fill(map: &str, from: &Path, to: &Path) -> Result<Counts, LoadError> {
    let (from, to) = (Content::open(map, from)?, Content::open(map, to)?);
    from.copy_to(&to, 0)?;
    let mut counts = Counts::new();
    if has_counts(&to) {
        let cells: Array<_, StatsValue> = typed(&to)?;
        to.each(|key, _| {
            let at = u32::try_from(index(key)).unwrap_or(u32::MAX);
            counts.insert(at, cells.get(&at, 0).map_err(io::Error::other)?);
            Ok(())
        })?;
    }
    Ok(counts)
}

/// Adds to a new map what the former one has that it has not, again until there is nothing.
pub(super) fn carry(map: &str, from: &Path, to: &Path) -> Result<u64, LoadError> {
    let (from, to) = (Content::open(map, from)?, Content::open(map, to)?);
    let mut all = 0;
    for _ in 0..PASSES {
        let carried = from.copy_to(&to, ONLY_NEW)?;
        all += carried;
        if carried == 0 {
            break;
        }
    }
    Ok(all)
}

fn has_counts(map: &Content) -> bool {
    map.kind == MapType::Array && map.size.value == size_of::<StatsValue>()
}

fn typed(map: &Content) -> Result<Array<MapData, StatsValue>, LoadError> {
    let failed = |source| LoadError::Map { name: map.name.clone(), source };
    let data = map.data.fd().as_fd().try_clone_to_owned();
    let data = data.map_err(aya::maps::MapError::IoError).and_then(MapData::from_fd).map_err(failed)?;
    Array::try_from(aya::maps::Map::Array(data)).map_err(failed)
}

/// Adds what was counted in the former map after it had been copied.
pub(super) fn add_counts(map: &str, copied: &Counts, from: &Path, to: &Path) -> Result<(), LoadError> {
    let former = Content::open(map, from)?;
    if !has_counts(&former) {
        return Ok(());
    }
    let (cells, mut to): (Array<_, StatsValue>, Array<MapData, StatsValue>) =
        (typed(&former)?, open_map(&to.join(map))?);
    for (at, then) in copied {
        let failed = |error| LoadError::Map { name: map.to_owned(), source: error };
        let now = cells.get(at, 0).map_err(failed)?;
        let mut cell = to.get(at, 0).map_err(failed)?;
        if now == *then || cell.generation != then.generation || now.generation != then.generation {
            continue;
        }
        let generation = cell.generation;
        cell = StatsValue { generation, ..cell.plus(&now.minus(then)) };
        step("upgrade, counts of a cell")?;
        to.set(*at, cell, 0).map_err(failed)?;
    }
    Ok(())
}
