//! A node whose hooks are the programs in the kernel.

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf};
use lb_common::abi::filter::{
    ADDRESS_BLOCKS, BACK_BLOCKS, Block, CELLS, Cells, FLOW_BLOCKS, FRONT_BLOCKS, backend_address_hash, endpoint_hash,
    frontend_address_hash, frontend_hash, position,
};
use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, CauseKey, CauseValue, Counter, EventValue, FamilyConfig, FlowKey,
    FlowValue, FragmentKey, FragmentValue, FrontendKey, FrontendValue, SILENT, SenderKey, SourceRangeKey, StatsValue,
    TABLE_BLOCK, TableBlock, TableKey, TurnKey, V4, V6, Waiting, map_name, refusals, watch,
};
use lb_common::testkit::{Action, Hook, Node, Outcome, gathered};
use lb_common::wire::IpVersion as _;

use crate::rig::{FromXdp, Mode, Rig};

/// One family's view of the programs.
pub(crate) struct KernelNode<'r> {
    pub(crate) rig: &'r mut Rig,
    pub(crate) mode: Mode,
    pub(crate) may_hand_over: bool,
}

fn cpus() -> usize {
    aya::util::nr_cpus().map_err(|(_, error)| error).unwrap()
}

impl KernelNode<'_> {
    fn table<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        self.rig.object.map_mut(name).unwrap().try_into().unwrap()
    }

    fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        self.rig.object.map_mut(name).unwrap().try_into().unwrap()
    }

    fn clear<K: Pod, V: Pod>(&mut self, name: &str) {
        let mut table = self.table::<K, V>(name);
        let keys: Vec<K> = table.keys().collect::<Result<_, _>>().unwrap();
        for key in keys {
            table.remove(&key).unwrap();
        }
    }

    fn zero<V: Pod + Default>(&mut self, name: &str, used: u32) {
        let mut array = self.array::<V>(name);
        for index in 0..used {
            array.set(index, V::default(), 0).unwrap();
        }
    }

    fn uplink_by_xdp(&mut self, ifindex: u32, packet: &[u8]) -> Outcome {
        match self.rig.xdp(ifindex, packet) {
            FromXdp::Done(outcome) => outcome,
            FromXdp::Marked(bytes) => Outcome { action: Action::Pass, bytes },
            FromXdp::Unmarked(bytes) => {
                assert_eq!(bytes, packet, "what XDP leaves to TC is as it came");
                let outcome = self.rig.tc(Hook::UplinkIngress, ifindex, packet);
                let alone = outcome.action == Action::Pass && outcome.bytes == packet;
                assert!(
                    alone || self.may_hand_over || self.mode == Mode::XdpNoSend,
                    "XDP left this to TC, which had to {:?} it",
                    outcome.action
                );
                outcome
            }
        }
    }

    fn run(&mut self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome {
        if hook == Hook::UplinkIngress && self.mode != Mode::Tc {
            self.uplink_by_xdp(ifindex, packet)
        } else {
            self.rig.tc(hook, ifindex, packet)
        }
    }

    /// Adds a member to a filter.
    fn claim(&mut self, filter: &str, hash: u64, blocks: u32) {
        let at = position(hash, blocks);
        let mut array = self.array::<Block>(filter);
        let mut block = array.get(&at.block, 0).unwrap();
        block[at.word as usize] |= at.bits;
        array.set(at.block, block, 0).unwrap();
        self.rig.claimed.push((filter.to_owned(), at.block));
    }

    /// Empties a family's filters.
    fn disclaim(&mut self, family: usize) {
        let own = [map_name::FRONT_FILTER[family], map_name::BACK_FILTER[family], map_name::ADDRESS_FILTER[family]];
        let (gone, left) =
            std::mem::take(&mut self.rig.claimed).into_iter().partition(|(filter, _)| own.contains(&filter.as_str()));
        self.rig.claimed = left;
        let gone: Vec<(String, u32)> = gone;
        for (filter, block) in gone {
            self.array::<Block>(&filter).set(block, [0; 8], 0).unwrap();
        }
        for block in 0..2 * FLOW_BLOCKS {
            self.array::<Cells>(map_name::FLOW_FILTER[family]).set(block, [0; CELLS], 0).unwrap();
        }
        let complete = lb_common::abi::lately::FLOW_FILTER + u32::try_from(family).unwrap();
        self.array::<u32>(map_name::LATELY).set(complete, 1, 0).unwrap();
        for event in [lb_common::abi::lately::REMAP, lb_common::abi::lately::OVERFLOW] {
            self.array::<u32>(map_name::LATELY).set(event + u32::try_from(family).unwrap(), 0, 0).unwrap();
        }
    }

    /// Empties the cell of a backend, unless it is of this generation.
    fn begin_stats(&mut self, name: &str, backend: u32, generation: u32) {
        let mut stats = self.array::<StatsValue>(name);
        if stats.get(&backend, 0).unwrap().generation != generation {
            stats.set(backend, StatsValue { generation, ..StatsValue::default() }, 0).unwrap();
        }
    }

    fn clear_counters(&mut self) {
        let mut counters: PerCpuArray<&mut MapData, u64> =
            self.rig.object.map_mut(map_name::COUNTERS).unwrap().try_into().unwrap();
        for counter in Counter::ALL {
            counters.set(counter.index(), PerCpuValues::try_from(vec![0; cpus()]).unwrap(), 0).unwrap();
        }
    }

    /// Empties a family's buckets of refusals.
    fn clear_refusals(&mut self, family: usize) {
        let mut buckets: PerCpuArray<&mut MapData, u64> =
            self.rig.object.map_mut(map_name::REFUSALS[family]).unwrap().try_into().unwrap();
        for bucket in 0..refusals::COUNT {
            buckets.set(bucket, PerCpuValues::try_from(vec![0; cpus()]).unwrap(), 0).unwrap();
        }
    }
}

/// A `KernelNode` plays either family; which tables it uses is all that differs.
macro_rules! family {
    ($addr:ty, $at:expr) => {
        impl Node<$addr> for KernelNode<'_> {
            fn reset(&mut self) {
                for name in [map_name::FLOWS[$at], map_name::HALF_OPEN[$at]] {
                    self.clear::<FlowKey<$addr>, FlowValue<$addr>>(name);
                }
                self.clear::<CauseKey, CauseValue>(map_name::CAUSES);
                self.clear::<AffinityKey<$addr>, AffinityValue>(map_name::AFFINITY[$at]);
                self.clear::<FragmentKey<$addr>, FragmentValue>(map_name::FRAGMENTS[$at]);
                self.clear::<FragmentKey<$addr>, Waiting>(map_name::EARLY[$at]);
                self.clear::<SenderKey<$addr>, Waiting>(map_name::SENDERS[$at]);
                self.clear::<FrontendKey<$addr>, FrontendValue>(map_name::FRONTENDS[$at]);
                let mut ranges: LpmTrie<_, SourceRangeKey<$addr>, u32> =
                    self.rig.object.map_mut(map_name::RANGES[$at]).unwrap().try_into().unwrap();
                let keys: Vec<_> = ranges.keys().collect::<Result<_, _>>().unwrap();
                for key in keys {
                    ranges.remove(&key).unwrap();
                }
                self.clear::<TableKey, TableBlock>(map_name::MAGLEV[$at]);
                self.clear::<TurnKey, u32>(map_name::TURNS[$at]);
                self.disclaim($at);
                self.zero::<u32>(map_name::SLOTS[$at], 512);
                self.zero::<BackendValue<$addr>>(map_name::BACKENDS[$at], 8);
                self.rig.write_devices(self.mode, &[]);
                for backend in 0..8 {
                    self.begin_stats(map_name::STATS[$at], backend, 0);
                }
                self.clear_counters();
                self.clear_refusals($at);
                self.may_hand_over = false;
                Node::<$addr>::replayed(self);
                self.zero::<u64>(map_name::WATCH, watch::COUNT);
                Node::<$addr>::told(self);
            }

            fn listen(&mut self) {
                self.array::<u64>(map_name::WATCH).set(watch::UNTIL, u64::MAX, 0).unwrap();
            }

            fn told(&mut self) -> Vec<EventValue<$addr>> {
                let mut ring: RingBuf<&mut MapData> =
                    self.rig.object.map_mut(map_name::EVENTS).unwrap().try_into().unwrap();
                let mut events = Vec::new();
                while let Some(record) = ring.next() {
                    if record.len() == size_of::<EventValue<$addr>>() {
                        // SAFETY: plain old data of this length, wherever it lies.
                        events.push(unsafe { record.as_ptr().cast::<EventValue<$addr>>().read_unaligned() });
                    }
                }
                events
            }

            fn set_config(&mut self, config: FamilyConfig<$addr>) {
                self.array(map_name::CONFIG[$at]).set(0, config, 0).unwrap();
            }

            fn set_local(&mut self, devices: &[u32]) {
                self.rig.write_devices(self.mode, devices);
            }

            fn set_frontend(&mut self, key: FrontendKey<$addr>, value: Option<FrontendValue>) {
                if value.is_some()
                    && let Some(hash) = frontend_hash(&key)
                {
                    self.claim(map_name::FRONT_FILTER[$at], hash, FRONT_BLOCKS);
                    self.claim(map_name::ADDRESS_FILTER[$at], frontend_address_hash(key.addr), ADDRESS_BLOCKS);
                }
                let mut table = self.table(map_name::FRONTENDS[$at]);
                match value {
                    Some(value) => table.insert(key, value, 0).unwrap(),
                    None => table.remove(&key).unwrap(),
                }
            }

            fn set_slot(&mut self, index: u32, backend: u32) {
                self.array(map_name::SLOTS[$at]).set(index, backend, 0).unwrap();
            }

            fn set_table(&mut self, set: u32, bytes: &[u8]) {
                let mut table = self.table::<TableKey, TableBlock>(map_name::MAGLEV[$at]);
                for (block, part) in (0..).zip(bytes.chunks(TABLE_BLOCK)) {
                    let mut value = TableBlock { bytes: [0; TABLE_BLOCK] };
                    value.bytes[..part.len()].copy_from_slice(part);
                    table.insert(TableKey { set, block }, value, 0).unwrap();
                }
            }

            fn set_backend(&mut self, id: u32, mut value: BackendValue<$addr>) {
                self.claim(map_name::BACK_FILTER[$at], endpoint_hash(value.addr, value.port), BACK_BLOCKS);
                self.claim(map_name::ADDRESS_FILTER[$at], backend_address_hash(value.addr), ADDRESS_BLOCKS);
                self.begin_stats(map_name::STATS[$at], id, value.generation);
                let mut backends = self.array::<BackendValue<$addr>>(map_name::BACKENDS[$at]);
                let known = backends.get(&id, 0).unwrap();
                if known.generation == value.generation {
                    (value.silent, value.answered) = (known.silent, known.answered);
                }
                backends.set(id, value, 0).unwrap();
            }

            fn allow_range(&mut self, service: u32, net: $addr, prefix: u32) {
                let mut ranges: LpmTrie<_, _, u32> =
                    self.rig.object.map_mut(map_name::RANGES[$at]).unwrap().try_into().unwrap();
                ranges.insert(&Key::new(32 + prefix, SourceRangeKey { service, addr: net }), 1, 0).unwrap();
            }

            fn forget(&mut self, key: &FlowKey<$addr>) {
                for name in [map_name::FLOWS[$at], map_name::HALF_OPEN[$at]] {
                    // One of the two has it, or none.
                    drop(self.table::<FlowKey<$addr>, FlowValue<$addr>>(name).remove(key));
                }
            }

            fn pass_seconds(&mut self, seconds: u64) {
                // The kernel's clock cannot be set: the entries grow older instead.
                let mut table = self.table::<AffinityKey<$addr>, AffinityValue>(map_name::AFFINITY[$at]);
                let entries: Vec<_> = table.iter().collect::<Result<_, _>>().unwrap();
                for (key, mut value) in entries {
                    value.last_ns = value.last_ns.saturating_sub(seconds * 1_000_000_000);
                    table.insert(key, value, 0).unwrap();
                }
                let mut table = self.table::<FlowKey<$addr>, FlowValue<$addr>>(map_name::HALF_OPEN[$at]);
                let entries: Vec<_> = table.iter().collect::<Result<_, _>>().unwrap();
                // At least so many ticks, whatever the kernel was built with.
                let (seconds, ticks) = (u16::try_from(seconds).unwrap(), u32::try_from(seconds).unwrap() * 1_000);
                for (key, mut value) in entries {
                    value.seen = value.seen.wrapping_sub(ticks);
                    value.born = value.born.wrapping_sub(ticks);
                    table.insert(key, value, 0).unwrap();
                }
                let mut backends = self.array::<BackendValue<$addr>>(map_name::BACKENDS[$at]);
                for id in 0..8 {
                    let mut value = backends.get(&id, 0).unwrap();
                    if value.silent != 0 {
                        value.silent = value.silent.wrapping_sub(seconds * 4) | SILENT;
                    }
                    if value.answered != 0 {
                        value.answered = value.answered.wrapping_sub(ticks).max(1);
                    }
                    backends.set(id, value, 0).unwrap();
                }
            }

            fn send(&mut self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome {
                self.run(hook, ifindex, packet)
            }

            fn replayed(&mut self) -> Vec<Vec<u8>> {
                self.rig.namespace.replayed(&<$addr>::ETHERTYPE.to_ne_bytes())
            }

            fn counter(&mut self, counter: Counter) -> u64 {
                self.rig.counter(counter)
            }

            fn causes(&mut self, service: u32, cause: Counter) -> u64 {
                let key = CauseKey { service, counter: cause.index() };
                let causes = self.table::<CauseKey, CauseValue>(map_name::CAUSES);
                causes.get(&key, 0).map_or(0, |value| value.count)
            }

            fn stats(&mut self, backend: u32) -> StatsValue {
                let stats = self.array::<StatsValue>(map_name::STATS[$at]);
                StatsValue { generation: 0, ..stats.get(&backend, 0).unwrap() }
            }

            fn gathered(&mut self, backend: u32) -> StatsValue {
                let mut entries = Vec::new();
                for name in [map_name::FLOWS[$at], map_name::HALF_OPEN[$at]] {
                    let flows = self.table::<FlowKey<$addr>, FlowValue<$addr>>(name);
                    entries.extend(flows.iter().map(|entry| entry.unwrap().1));
                }
                gathered(entries.into_iter(), backend)
            }

            fn expect_hand_over(&mut self) {
                self.may_hand_over = true;
            }

            fn flows(&mut self) -> (usize, usize) {
                let mut count = |name| self.table::<FlowKey<$addr>, FlowValue<$addr>>(name).keys().count();
                (count(map_name::FLOWS[$at]), count(map_name::HALF_OPEN[$at]))
            }
        }
    };
}

family!(V4, 0);
family!(V6, 1);
