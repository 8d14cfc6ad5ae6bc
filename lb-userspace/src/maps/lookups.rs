//! The pinned maps of one family as questions with answers, for who reads them as the data path does and writes nothing.

use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use lb_common::abi::filter::{Block, Cells};
use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, DeviceValue, FamilyConfig, FlowKey, FlowValue, FrontendKey,
    FrontendValue, SocketKey, SocketValue, SourceRangeKey, StatsValue, map_name,
};

use super::address::MapAddress;
use super::failure::TableFailure;
use super::pins::{open, read_failure};

/// What a key leads to; `None`: nothing, or it cannot be read.
pub type Lookup<K, V> = Box<dyn Fn(&K) -> Option<V>>;

/// The maps that the data path of one family reads.
pub struct Lookups<A> {
    /// Settings.
    pub config: FamilyConfig<A>,
    /// Frontends.
    pub frontends: Lookup<FrontendKey<A>, FrontendValue>,
    /// Backend ids by slot.
    pub slots: Lookup<u32, u32>,
    /// Backends by id.
    pub backends: Lookup<u32, BackendValue<A>>,
    /// What is counted of a backend.
    pub stats: Lookup<u32, StatsValue>,
    /// Whether a client is in a Service's source ranges.
    pub ranges: Lookup<SourceRangeKey<A>, u32>,
    /// Established flows.
    pub flows: Lookup<FlowKey<A>, FlowValue<A>>,
    /// Half-open flows.
    pub half_open: Lookup<FlowKey<A>, FlowValue<A>>,
    /// Last backends of clients.
    pub affinity: Lookup<AffinityKey<A>, AffinityValue>,
    /// Sockets that are load-balanced.
    pub sockets: Lookup<SocketKey<A>, SocketValue<A>>,
    /// Blocks of the filter of frontends.
    pub front_filter: Lookup<u32, Block>,
    /// Blocks of the filter of backends.
    pub back_filter: Lookup<u32, Block>,
    /// Blocks of the filter of flows.
    pub flow_filter: Lookup<u32, Cells>,
    /// When rare events last happened.
    pub lately: Lookup<u32, u32>,
    /// Devices.
    pub devices: Lookup<u32, DeviceValue>,
}

fn hash<K: Pod, V: Pod>(dir: &Path, name: &'static str) -> Result<Lookup<K, V>, TableFailure> {
    let map: HashMap<MapData, K, V> = open(dir, name)?;
    Ok(Box::new(move |key| map.get(key, 0).ok()))
}

fn array<V: Pod>(dir: &Path, name: &'static str) -> Result<Lookup<u32, V>, TableFailure> {
    let map: Array<MapData, V> = open(dir, name)?;
    Ok(Box::new(move |index| map.get(index, 0).ok()))
}

impl<A: MapAddress + 'static> Lookups<A> {
    /// Opens the pins.
    pub(crate) fn open(pin_path: &Path) -> Result<Self, TableFailure>
    where
        FamilyConfig<A>: Pod,
        FrontendKey<A>: Pod,
        BackendValue<A>: Pod,
        SourceRangeKey<A>: Pod,
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
        AffinityKey<A>: Pod,
        SocketKey<A>: Pod,
        SocketValue<A>: Pod,
    {
        let (dir, at) = (&pin_path.join("maps"), usize::from(A::IS_V6));
        let config: Array<MapData, FamilyConfig<A>> = open(dir, map_name::CONFIG[at])?;
        let ranges: LpmTrie<MapData, SourceRangeKey<A>, u32> = open(dir, map_name::RANGES[at])?;
        let bits = u32::BITS + u32::from(A::BITS);
        Ok(Self {
            config: config.get(&0, 0).map_err(read_failure(map_name::CONFIG[at]))?,
            frontends: hash(dir, map_name::FRONTENDS[at])?,
            slots: array(dir, map_name::SLOTS[at])?,
            backends: array(dir, map_name::BACKENDS[at])?,
            stats: array(dir, map_name::STATS[at])?,
            ranges: Box::new(move |key| ranges.get(&Key::new(bits, *key), 0).ok()),
            flows: hash(dir, map_name::FLOWS[at])?,
            half_open: hash(dir, map_name::HALF_OPEN[at])?,
            affinity: hash(dir, map_name::AFFINITY[at])?,
            sockets: hash(dir, map_name::SOCKETS[at])?,
            front_filter: array(dir, map_name::FRONT_FILTER[at])?,
            back_filter: array(dir, map_name::BACK_FILTER[at])?,
            flow_filter: array(dir, map_name::FLOW_FILTER[at])?,
            lately: array(dir, map_name::LATELY)?,
            devices: hash(dir, map_name::DEVICES)?,
        })
    }
}

impl<A> std::fmt::Debug for Lookups<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}
