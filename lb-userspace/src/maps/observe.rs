//! Facts about the pinned maps that are not Services: capacity, fill, counters.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapInfo, PerCpuArray, lpm_trie::LpmTrie};
use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, Counter, DeviceValue, FlowKey, FlowValue, FragmentKey, FragmentValue,
    FrontendKey, FrontendValue, NameValue, SocketKey, SocketValue, SourceRangeKey, StatsValue, V4, V6, map_name,
};

use super::TableFailure;
use super::batch;
use super::family::{open, open_raw, read_failure};

/// Capacity of a pinned map.
pub fn capacity(dir: &Path, name: &str) -> Result<u32, TableFailure> {
    Ok(info(dir, name)?.max_entries())
}

fn info(dir: &Path, name: &str) -> Result<MapInfo, TableFailure> {
    let path = dir.join(name);
    MapInfo::from_pin(&path).map_err(|source| TableFailure::Open { path, source })
}

/// Every counter, summed over the processors.
pub fn counters(pin_path: &Path) -> Result<Vec<(&'static str, u64)>, TableFailure> {
    let map: PerCpuArray<MapData, u64> = open(&pin_path.join("maps"), map_name::COUNTERS)?;
    let sum = |counter: &Counter| {
        let values = map.get(&counter.index(), 0).map_err(read_failure(map_name::COUNTERS))?;
        Ok((counter.name(), values.iter().sum()))
    };
    Counter::ALL.iter().filter(|counter| counter.index() < map.len()).map(sum).collect()
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

/// Fill of every hash map that can run full.
pub fn fills(pin_path: &Path) -> Result<Vec<Fill>, TableFailure> {
    let dir = pin_path.join("maps");
    let names = map_name::FRONTENDS;
    let mut fills = vec![
        fill::<FrontendKey<V4>, FrontendValue>(&dir, names[0])?,
        fill::<FrontendKey<V6>, FrontendValue>(&dir, names[1])?,
        fill::<u32, NameValue>(&dir, map_name::NAMES)?,
    ];
    for names in [map_name::FLOWS, map_name::EMBRYOS] {
        fills.push(fill::<FlowKey<V4>, FlowValue<V4>>(&dir, names[0])?);
        fills.push(fill::<FlowKey<V6>, FlowValue<V6>>(&dir, names[1])?);
    }
    fills.push(fill::<AffinityKey<V4>, AffinityValue>(&dir, map_name::AFFINITY[0])?);
    fills.push(fill::<AffinityKey<V6>, AffinityValue>(&dir, map_name::AFFINITY[1])?);
    fills.push(fill::<SocketKey<V4>, SocketValue<V4>>(&dir, map_name::SOCKETS[0])?);
    fills.push(fill::<SocketKey<V6>, SocketValue<V6>>(&dir, map_name::SOCKETS[1])?);
    Ok(fills)
}

/// Fill of every map that can run full. The slots' is known to the planner alone.
pub fn all_fills(pin_path: &Path) -> Result<Vec<Fill>, TableFailure> {
    let dir = pin_path.join("maps");
    let mut all = fills(pin_path)?;
    all.push(fill::<FragmentKey<V4>, FragmentValue>(&dir, map_name::FRAGMENTS[0])?);
    all.push(fill::<FragmentKey<V6>, FragmentValue>(&dir, map_name::FRAGMENTS[1])?);
    all.push(fill::<u32, DeviceValue>(&dir, map_name::DEVICES)?);
    all.push(fill::<[u32; 2], u32>(&dir, map_name::OPT_OUT)?);
    all.push(fill::<u32, StatsValue>(&dir, map_name::TOTALS)?);
    all.push(ranges::<V4>(&dir, map_name::RANGES[0])?);
    all.push(ranges::<V6>(&dir, map_name::RANGES[1])?);
    all.push(filled::<BackendValue<V4>>(&dir, map_name::BACKENDS[0], |value| value.generation != 0)?);
    all.push(filled::<BackendValue<V6>>(&dir, map_name::BACKENDS[1], |value| value.generation != 0)?);
    Ok(all)
}

fn ranges<A>(dir: &Path, map: &'static str) -> Result<Fill, TableFailure>
where
    SourceRangeKey<A>: Pod,
{
    let trie: LpmTrie<MapData, SourceRangeKey<A>, u32> = open(dir, map)?;
    let mut used = 0;
    for key in trie.keys() {
        key.map_err(read_failure(map))?;
        used += 1;
    }
    Ok(Fill { map, used, capacity: capacity(dir, map)? })
}

fn filled<V: Pod>(dir: &Path, map: &'static str, is_used: impl Fn(&V) -> bool) -> Result<Fill, TableFailure> {
    let data = open_raw(dir, map)?;
    let mut used = 0;
    let walked = batch::walk::<u32, V>(data.fd().as_fd(), 2048, |_, values| {
        used += values.iter().filter(|value| is_used(value)).count();
        ControlFlow::Continue(())
    });
    walked.map_err(|source| TableFailure::Batch { map, source })?;
    Ok(Fill { map, used, capacity: capacity(dir, map)? })
}

fn fill<K: Pod, V: Pod>(dir: &Path, map: &'static str) -> Result<Fill, TableFailure> {
    let data = open_raw(dir, map)?;
    let mut used = 0;
    let walked = batch::walk::<K, V>(data.fd().as_fd(), 2048, |keys, _| {
        used += keys.len();
        ControlFlow::Continue(())
    });
    walked.map_err(|source| TableFailure::Batch { map, source })?;
    Ok(Fill { map, used, capacity: capacity(dir, map)? })
}
