//! The programs under test with maps of their own, filled as the agent would fill them.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::abi::filter::{
    BACK_BLOCKS, Block, Cells, FRONT_BLOCKS, WORDS, cell, endpoint_hash, flow_hash, frontend_hash, is_noted, position,
};
use lb_common::abi::{
    BackendValue, DeviceValue, FamilyConfig, FlowKey, FlowValue, FrontendKey, StatsValue, V4, V6, device_flag, lately,
    map_name, proto,
};

use sluice::load::stages::{enter, second_stages};

use crate::world::{FLOWS, Net, World};

/// Sizes of the maps: the defaults of the object but for those that hold Services.
const SIZES: [(&str, u32); 8] = [
    ("FRONTENDS4", 65_536),
    ("FRONTENDS6", 65_536),
    ("SLOTS4", 262_144),
    ("SLOTS6", 262_144),
    ("BACKENDS4", 131_072),
    ("BACKENDS6", 131_072),
    ("STATS4", 131_072),
    ("STATS6", 131_072),
];

/// The TC programs.
const TC_PROGRAMS: [&str; 4] = ["pod_ingress", "pod_egress", "uplink_ingress", "uplink_egress"];
/// The XDP program.
const XDP_PROGRAM: &str = "uplink_xdp";

/// Loaded programs and the cluster in their maps.
pub(crate) struct Subject {
    /// What is in the maps.
    pub(crate) world: World,
    object: Ebpf,
}

impl Subject {
    /// Loads the object and fills its maps.
    pub(crate) fn load(object: &[u8], world: World) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for (name, size) in SIZES {
            loader.map_max_entries(name, size);
        }
        let mut object = loader.load(object).context("loading the kernel programs")?;
        for name in with_second_stages(&TC_PROGRAMS) {
            load_tc(&mut object, name)?;
        }
        for name in with_second_stages(&[XDP_PROGRAM]) {
            load_xdp(&mut object, name)?;
        }
        for first in TC_PROGRAMS.into_iter().chain([XDP_PROGRAM]) {
            for stage in second_stages(first) {
                enter(&mut object, *stage)?;
            }
        }
        // XDP answers only on a device that it may send by; a test run's is the loopback.
        let uplink = DeviceValue { flags: device_flag::UPLINK | device_flag::XDP_TARGET, ..DeviceValue::default() };
        map::<HashMap<_, u32, DeviceValue>>(&mut object, map_name::DEVICES)?.insert(1, uplink, 0)?;
        fill::<V4>(&mut object, world)?;
        fill::<V6>(&mut object, world)?;
        Ok(Self { world, object })
    }

    /// A program, to be called by the harness.
    pub(crate) fn program(&self, name: &str) -> Result<ProgramFd> {
        program_fd(&self.object, name)
    }

    /// Forgets the flows that have no reply, so that the next ones find room.
    pub(crate) fn forget_half_open(&mut self, v6: bool) -> Result<()> {
        if v6 { forget::<V6>(&mut self.object) } else { forget::<V4>(&mut self.object) }
    }

    /// Number of flows without a reply, in entries.
    pub(crate) fn half_open(&self, v6: bool) -> Result<usize> {
        let name = map_name::HALF_OPEN[usize::from(v6)];
        if v6 { count_flows::<V6>(&self.object, name) } else { count_flows::<V4>(&self.object, name) }
    }
}

/// These programs and their second stages, each once: some share theirs.
fn with_second_stages(first: &[&'static str]) -> BTreeSet<&'static str> {
    let second = first.iter().flat_map(|name| second_stages(name)).map(|stage| stage.program);
    first.iter().copied().chain(second).collect()
}

/// Loads a TC program.
pub(crate) fn load_tc(object: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut SchedClassifier =
        object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("loading {name}"))
}

/// Loads an XDP program.
pub(crate) fn load_xdp(object: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut Xdp = object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("loading {name}"))
}

/// A loaded program.
pub(crate) fn program_fd(object: &Ebpf, name: &str) -> Result<ProgramFd> {
    let program = object.program(name).with_context(|| format!("no program {name}"))?;
    Ok(program.fd()?.try_clone()?)
}

/// A map of the object.
pub(crate) fn map<'a, T>(object: &'a mut Ebpf, name: &str) -> Result<T>
where
    T: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
{
    let map = object.map_mut(name).with_context(|| format!("no map {name}"))?;
    T::try_from(map).with_context(|| format!("map {name}"))
}

/// Writes established flows, both directions and both protocols.
pub(crate) fn fill_flows<A: Net>(object: &mut Ebpf, name: &str, world: World) -> Result<()>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let mut flows: HashMap<_, FlowKey<A>, FlowValue<A>> = map(object, name)?;
    for number in 0..FLOWS {
        for protocol in [proto::TCP, proto::UDP] {
            for (key, value) in world.flow::<A>(number, protocol) {
                flows.insert(key, value, 0).with_context(|| format!("map {name}"))?;
            }
        }
    }
    Ok(())
}

fn fill<A: Net>(object: &mut Ebpf, world: World) -> Result<()>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    FamilyConfig<A>: Pod,
{
    let mut config: Array<_, FamilyConfig<A>> = map(object, map_name::CONFIG[A::INDEX])?;
    config.set(0, world.config(), 0)?;
    let mut backends: Array<_, BackendValue<A>> = map(object, map_name::BACKENDS[A::INDEX])?;
    for (id, value) in world.backends() {
        backends.set(id, value, 0)?;
    }
    fill_stats::<A>(object, world)?;
    let mut slots: Array<_, u32> = map(object, map_name::SLOTS[A::INDEX])?;
    for (id, _) in world.backends::<A>() {
        slots.set(id - 1, id, 0)?;
    }
    let mut frontends: HashMap<_, FrontendKey<A>, _> = map(object, map_name::FRONTENDS[A::INDEX])?;
    for (key, value) in world.frontends() {
        frontends.insert(key, value, 0)?;
    }
    fill_filters::<A>(object, world)?;
    fill_flow_filter::<A>(object, world)?;
    fill_flows::<A>(object, map_name::FLOWS[A::INDEX], world)
}

/// Puts frontends and backends into the filters. Objects from before the filters have no such maps.
fn fill_filters<A: Net>(object: &mut Ebpf, world: World) -> Result<()>
where
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
{
    let frontends = world.frontends::<A>().into_iter().filter_map(|(key, _)| frontend_hash(&key));
    claim(object, map_name::FRONT_FILTER[A::INDEX], FRONT_BLOCKS, frontends)?;
    let backends = world.backends::<A>().into_iter().map(|(_, value)| endpoint_hash(value.addr, value.port));
    claim(object, map_name::BACK_FILTER[A::INDEX], BACK_BLOCKS, backends)
}

fn claim(object: &mut Ebpf, name: &str, blocks: u32, members: impl Iterator<Item = u64>) -> Result<()> {
    let Some(map) = object.map_mut(name) else { return Ok(()) };
    let mut filter = vec![[0u64; WORDS]; usize::try_from(blocks)?];
    for at in members.map(|hash| position(hash, blocks)) {
        filter[usize::try_from(at.block)?][usize::try_from(at.word)?] |= at.bits;
    }
    let mut array: Array<_, Block> = map.try_into()?;
    for (index, block) in (0..).zip(filter) {
        array.set(index, block, 0)?;
    }
    Ok(())
}

/// Puts the established flows into the flow filter, and has it asked. Objects from before have no such map.
fn fill_flow_filter<A: Net>(object: &mut Ebpf, world: World) -> Result<()> {
    let Some(map) = object.map_mut(map_name::FLOW_FILTER[A::INDEX]) else { return Ok(()) };
    let mut filter: Array<_, Cells> = map.try_into()?;
    let flows = (0..FLOWS).flat_map(|number| [proto::TCP, proto::UDP].map(|protocol| (number, protocol)));
    let entries = flows.flat_map(|(number, protocol)| world.flow::<A>(number, protocol));
    for (key, _) in entries.filter(|(_, value)| is_noted(value.kind)) {
        let (block, at) = cell(flow_hash(&key));
        let mut cells = filter.get(&block, 0)?;
        cells[usize::try_from(at)?] = 1;
        filter.set(block, cells, 0)?;
    }
    let mut lately: Array<_, u32> = self::map(object, map_name::LATELY)?;
    let complete = lately::FLOW_FILTER + u32::try_from(A::INDEX)?;
    Ok(lately.set(complete, 1, 0)?)
}

/// Lets the traffic of all backends be counted. Objects from before the counters have no such map.
fn fill_stats<A: Net>(object: &mut Ebpf, world: World) -> Result<()> {
    let Some(map) = object.map_mut(map_name::STATS[A::INDEX]) else { return Ok(()) };
    let empty = |generation| StatsValue { generation, ..StatsValue::default() };
    // Objects from before had them for each processor.
    if matches!(map, Map::PerCpuArray(_)) {
        let cpus = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
        let mut stats = PerCpuArray::try_from(map)?;
        for (id, value) in world.backends::<A>() {
            stats.set(id, PerCpuValues::try_from(vec![empty(value.generation); cpus])?, 0)?;
        }
        return Ok(());
    }
    let mut stats = Array::try_from(map)?;
    for (id, value) in world.backends::<A>() {
        stats.set(id, empty(value.generation), 0)?;
    }
    Ok(())
}

fn keys<A: Net, T: Borrow<MapData>>(half_open: &HashMap<T, FlowKey<A>, FlowValue<A>>) -> Result<Vec<FlowKey<A>>>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    Ok(half_open.keys().collect::<Result<_, _>>()?)
}

fn forget<A: Net>(object: &mut Ebpf) -> Result<()>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let mut half_open: HashMap<_, FlowKey<A>, FlowValue<A>> = map(object, map_name::HALF_OPEN[A::INDEX])?;
    for key in keys(&half_open)? {
        half_open.remove(&key)?;
    }
    Ok(())
}

/// Entries of a table of flows.
pub(crate) fn count_flows<A: Net>(object: &Ebpf, name: &str) -> Result<usize>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let map = object.map(name).with_context(|| format!("no map {name}"))?;
    Ok(keys(&HashMap::<_, FlowKey<A>, FlowValue<A>>::try_from(map)?)?.len())
}
