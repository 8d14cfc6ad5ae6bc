//! Facts about the pinned maps that are not Services: capacity, fill, counters.
#![allow(
    clippy::wildcard_imports,
    reason = "the catalogue names every type of the module, and so does what follows it"
)]

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, MapData, MapInfo, PerCpuArray, lpm_trie::LpmTrie};
use lb_common::abi::*;

use super::batch;
use super::failure::TableFailure;
use super::mapped::MappedArray;
use super::pins::{open, open_raw, read_failure};

/// Capacity of a pinned map.
pub fn capacity(dir: &Path, name: &str) -> Result<u32, TableFailure> {
    Ok(info(dir, name)?.max_entries())
}

fn info(dir: &Path, name: &str) -> Result<MapInfo, TableFailure> {
    let path = dir.join(name);
    MapInfo::from_pin(&path).map_err(|source| TableFailure::Open { path, source })
}

/// A counter, summed over the processors.
pub(super) fn sum(map: &PerCpuArray<MapData, u64>, counter: Counter) -> Result<u64, TableFailure> {
    Ok(map.get(&counter.index(), 0).map_err(read_failure(map_name::COUNTERS))?.iter().sum())
}

/// Every counter, summed over the processors.
pub fn counters(pin_path: &Path) -> Result<Vec<(&'static str, u64)>, TableFailure> {
    let map: PerCpuArray<MapData, u64> = open(&pin_path.join("maps"), map_name::COUNTERS)?;
    let counted = Counter::ALL.iter().filter(|counter| counter.index() < map.len());
    counted.map(|counter| Ok((counter.name(), sum(&map, *counter)?))).collect()
}

/// Source ports for source NAT; none: no agent has said it yet.
pub fn snat_ports(pin_path: &Path) -> Result<Option<(u16, u16)>, TableFailure> {
    let map: Array<MapData, FamilyConfig<V4>> = open(&pin_path.join("maps"), map_name::CONFIG[0])?;
    let config = map.get(&0, 0).map_err(read_failure(map_name::CONFIG[0]))?;
    let (low, high) = (config.snat_lo.get(), config.snat_hi.get());
    Ok((low != 0).then_some((low, high)))
}

/// Whether TCP that began before Sluice is left to the stack (`--takeover`).
pub fn takes_over(pin_path: &Path) -> Result<bool, TableFailure> {
    let map: Array<MapData, FamilyConfig<V4>> = open(&pin_path.join("maps"), map_name::CONFIG[0])?;
    let config = map.get(&0, 0).map_err(read_failure(map_name::CONFIG[0]))?;
    Ok(config.flags & config_flag::TAKEOVER != 0)
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The map.
    pub map: &'static str,
    /// Entries in use.
    pub used: usize,
    /// Entries it can hold.
    pub capacity: u32,
}

macro_rules! push_fill {
    (Hash $key:ty, $value:ty, $fills:ident, $dir:ident, $map:expr) => {
        $fills.push(fill::<$key, $value>($dir, $map)?);
    };
    (LruHash $key:ty, $value:ty, $fills:ident, $dir:ident, $map:expr) => {
        $fills.push(fill::<$key, $value>($dir, $map)?);
    };
    (LpmTrie $key:ty, $value:ty, $fills:ident, $dir:ident, $map:expr) => {
        $fills.push(prefixes::<$key, $value>($dir, $map)?);
    };
    // Every element of an array is there; what counts as used depends on the value.
    ($kind:ident $key:ty, $value:ty, $fills:ident, $dir:ident, $map:expr) => {};
}

/// Fill of every map that can run full. The slots' is known to the planner alone.
pub fn fills(pin_path: &Path) -> Result<Vec<Fill>, TableFailure> {
    let dir = &pin_path.join("maps");
    let mut fills = Vec::new();
    macro_rules! family {
        (V4: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
            $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
            $(push_fill!($kind $key, $value, fills, dir, stringify!($v4));)*
        };
        (V6: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
            $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
            $(push_fill!($kind $key, $value, fills, dir, stringify!($v6));)*
        };
    }
    macro_rules! single {
        ($($(#[$doc:meta])* $table:ident $accessor:ident [$map:ident]: $pin:ident
            $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
            $(push_fill!($kind $key, $value, fills, dir, stringify!($map));)*
        };
    }
    lb_common::tables!(family, V4, family);
    lb_common::tables!(family, V6, family);
    lb_common::tables!(single, single);
    lb_common::tables!(agent, single);
    fills.push(filled::<BackendValue<V4>>(dir, map_name::BACKENDS[0], |value| value.generation != 0)?);
    fills.push(filled::<BackendValue<V6>>(dir, map_name::BACKENDS[1], |value| value.generation != 0)?);
    let order = |fill: &Fill| tables::all().flat_map(|table| table.maps).position(|map| map.name == fill.map);
    fills.sort_by_key(order);
    Ok(fills)
}

/// Frontends of Services, of both families. Addresses that are known only to refuse other ports are none.
pub fn frontends(pin_path: &Path) -> Result<usize, TableFailure> {
    let dir = &pin_path.join("maps");
    let [v4, v6] = map_name::FRONTENDS;
    Ok(frontends_of::<V4>(dir, v4)? + frontends_of::<V6>(dir, v6)?)
}

fn frontends_of<A>(dir: &Path, map: &'static str) -> Result<usize, TableFailure>
where
    FrontendKey<A>: Pod,
{
    let is_one = |value: &&FrontendValue| !frontend_kind::is_of_address(value.kind);
    let mut found = 0;
    walk::<FrontendKey<A>, FrontendValue>(dir, map, |values| found += values.iter().filter(is_one).count())?;
    Ok(found)
}

fn prefixes<K: Pod, V: Pod>(dir: &Path, map: &'static str) -> Result<Fill, TableFailure> {
    let trie: LpmTrie<MapData, K, V> = open(dir, map)?;
    let mut used = 0;
    for key in trie.keys() {
        key.map_err(read_failure(map))?;
        used += 1;
    }
    Ok(Fill { map, used, capacity: capacity(dir, map)? })
}

fn filled<V: Pod>(dir: &Path, map: &'static str, is_used: impl Fn(&V) -> bool) -> Result<Fill, TableFailure> {
    let array = MappedArray::<V>::open(dir, map)?;
    let mut used = 0;
    for index in 0..array.len() {
        used += usize::from(array.get(index)?.is_some_and(|value| is_used(&value)));
    }
    Ok(Fill { map, used, capacity: array.len() })
}

/// Values larger than this are not read only to be counted.
const LARGE: usize = 4_000;

fn fill<K: Pod, V: Pod>(dir: &Path, map: &'static str) -> Result<Fill, TableFailure> {
    let mut used = 0;
    if size_of::<V>() > LARGE {
        let table: HashMap<MapData, K, V> = open(dir, map)?;
        for key in table.keys() {
            key.map_err(read_failure(map))?;
            used += 1;
        }
        return Ok(Fill { map, used, capacity: capacity(dir, map)? });
    }
    walk::<K, V>(dir, map, |values| used += values.len())?;
    Ok(Fill { map, used, capacity: capacity(dir, map)? })
}

fn walk<K: Pod, V: Pod>(dir: &Path, map: &'static str, mut each: impl FnMut(&[V])) -> Result<(), TableFailure> {
    let data = open_raw(dir, map)?;
    let walked = batch::walk::<K, V>(data.fd().as_fd(), 2048, |_, values| {
        each(values);
        ControlFlow::Continue(())
    });
    walked.map_err(|source| TableFailure::Batch { map, source })
}
