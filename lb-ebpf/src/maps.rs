//! All maps of the data path. Sizes here are the defaults; the agent overrides them at load. Maps that no program reads
//! (names, status, report) are made by the agent alone.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use lb_common::abi::{
    Address, AffinityKey, AffinityValue, BackendValue, Cidr, Counter, DeviceValue, FamilyConfig, FlowKey, FlowValue,
    FragmentKey, FragmentValue, FrontendKey, FrontendValue, SocketKey, SocketValue, SourceRangeKey, StatsValue, V4, V6,
    device_flag,
};
use lb_common::datapath::Scratch;

macro_rules! maps {
    ($($name:ident: $ty:ty = $kind:ident($size:expr, $flags:expr);)*) => {
        $(#[map] static $name: $ty = $kind::with_max_entries($size, $flags);)*
    };
}

maps! {
    FLOWS4: LruHashMap<FlowKey<V4>, FlowValue<V4>> = LruHashMap(131_072, 0);
    FLOWS6: LruHashMap<FlowKey<V6>, FlowValue<V6>> = LruHashMap(131_072, 0);
    EMBRYO4: LruHashMap<FlowKey<V4>, FlowValue<V4>> = LruHashMap(65_536, 0);
    EMBRYO6: LruHashMap<FlowKey<V6>, FlowValue<V6>> = LruHashMap(65_536, 0);
    AFFINITY4: LruHashMap<AffinityKey<V4>, AffinityValue> = LruHashMap(65_536, 0);
    AFFINITY6: LruHashMap<AffinityKey<V6>, AffinityValue> = LruHashMap(65_536, 0);
    FRAGS4: LruHashMap<FragmentKey<V4>, FragmentValue> = LruHashMap(8_192, 0);
    FRAGS6: LruHashMap<FragmentKey<V6>, FragmentValue> = LruHashMap(8_192, 0);
    SOCKETS4: LruHashMap<SocketKey<V4>, SocketValue<V4>> = LruHashMap(65_536, 0);
    SOCKETS6: LruHashMap<SocketKey<V6>, SocketValue<V6>> = LruHashMap(65_536, 0);
    OPT_OUT: HashMap<[u32; 2], u32> = HashMap(1_024, 0);
    FRONTENDS4: HashMap<FrontendKey<V4>, FrontendValue> = HashMap(65_536, 0);
    FRONTENDS6: HashMap<FrontendKey<V6>, FrontendValue> = HashMap(65_536, 0);
    RANGES4: LpmTrie<SourceRangeKey<V4>, u32> = LpmTrie(16_384, BPF_F_NO_PREALLOC);
    RANGES6: LpmTrie<SourceRangeKey<V6>, u32> = LpmTrie(16_384, BPF_F_NO_PREALLOC);
    DEVICES: HashMap<u32, DeviceValue> = HashMap(4_096, 0);
}

macro_rules! arrays {
    ($($name:ident: $ty:ident<$value:ty> = $size:expr;)*) => {
        $(#[map] static $name: $ty<$value> = $ty::with_max_entries($size, 0);)*
    };
}

arrays! {
    SLOTS4: Array<u32> = 262_144;
    SLOTS6: Array<u32> = 262_144;
    BACKENDS4: Array<BackendValue<V4>> = 131_072;
    BACKENDS6: Array<BackendValue<V6>> = 131_072;
    CONFIG4: Array<FamilyConfig<V4>> = 1;
    CONFIG6: Array<FamilyConfig<V6>> = 1;
    SCRATCH4: PerCpuArray<Scratch<V4>> = 1;
    SCRATCH6: PerCpuArray<Scratch<V6>> = 1;
    STATS4: PerCpuArray<StatsValue> = 4_096;
    STATS6: PerCpuArray<StatsValue> = 4_096;
    COUNTERS: PerCpuArray<u64> = Counter::COUNT;
}

/// The maps of one address family.
pub(crate) trait FamilyMaps: Address + 'static {
    fn flows() -> &'static LruHashMap<FlowKey<Self>, FlowValue<Self>>;
    fn embryos() -> &'static LruHashMap<FlowKey<Self>, FlowValue<Self>>;
    fn affinity() -> &'static LruHashMap<AffinityKey<Self>, AffinityValue>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentValue>;
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, SocketValue<Self>>;
    fn frontends() -> &'static HashMap<FrontendKey<Self>, FrontendValue>;
    fn ranges() -> &'static LpmTrie<SourceRangeKey<Self>, u32>;
    fn slots() -> &'static Array<u32>;
    fn backends() -> &'static Array<BackendValue<Self>>;
    fn config() -> &'static Array<FamilyConfig<Self>>;
    fn scratch() -> &'static PerCpuArray<Scratch<Self>>;
    fn stats() -> &'static PerCpuArray<StatsValue>;
    /// Settings while the agent has written none: nothing matches.
    fn no_config() -> &'static FamilyConfig<Self>;
    /// The device's address of this family.
    fn of_device(device: &DeviceValue) -> Self;
}

macro_rules! family {
    ($ty:ident, $flows:ident, $embryos:ident, $affinity:ident, $fragments:ident, $sockets:ident, $frontends:ident,
     $ranges:ident, $slots:ident, $backends:ident, $config:ident, $scratch:ident, $stats:ident, $empty:ident,
     $device:ident) => {
        static $empty: FamilyConfig<$ty> = FamilyConfig {
            abi: 0,
            flags: 0,
            node: $ty::ZERO,
            vip_lo: $ty::ZERO,
            vip_hi: $ty::ZERO,
            cluster: [Cidr { net: $ty::ZERO, mask: $ty::ZERO }; 4],
            services: [Cidr { net: $ty::ZERO, mask: $ty::ZERO }; 2],
            snat_lo: lb_common::abi::Be16(0),
            snat_hi: lb_common::abi::Be16(0),
            host_netns: [0; 2],
        };

        impl FamilyMaps for $ty {
            #[inline(always)]
            fn flows() -> &'static LruHashMap<FlowKey<Self>, FlowValue<Self>> {
                &$flows
            }
            #[inline(always)]
            fn embryos() -> &'static LruHashMap<FlowKey<Self>, FlowValue<Self>> {
                &$embryos
            }
            #[inline(always)]
            fn affinity() -> &'static LruHashMap<AffinityKey<Self>, AffinityValue> {
                &$affinity
            }
            #[inline(always)]
            fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentValue> {
                &$fragments
            }
            #[inline(always)]
            fn sockets() -> &'static LruHashMap<SocketKey<Self>, SocketValue<Self>> {
                &$sockets
            }
            #[inline(always)]
            fn frontends() -> &'static HashMap<FrontendKey<Self>, FrontendValue> {
                &$frontends
            }
            #[inline(always)]
            fn ranges() -> &'static LpmTrie<SourceRangeKey<Self>, u32> {
                &$ranges
            }
            #[inline(always)]
            fn slots() -> &'static Array<u32> {
                &$slots
            }
            #[inline(always)]
            fn backends() -> &'static Array<BackendValue<Self>> {
                &$backends
            }
            #[inline(always)]
            fn config() -> &'static Array<FamilyConfig<Self>> {
                &$config
            }
            #[inline(always)]
            fn scratch() -> &'static PerCpuArray<Scratch<Self>> {
                &$scratch
            }
            #[inline(always)]
            fn stats() -> &'static PerCpuArray<StatsValue> {
                &$stats
            }
            #[inline(always)]
            fn no_config() -> &'static FamilyConfig<Self> {
                &$empty
            }
            #[inline(always)]
            fn of_device(device: &DeviceValue) -> Self {
                device.$device
            }
        }
    };
}

family!(
    V4, FLOWS4, EMBRYO4, AFFINITY4, FRAGS4, SOCKETS4, FRONTENDS4, RANGES4, SLOTS4, BACKENDS4, CONFIG4, SCRATCH4,
    STATS4, NO_CONFIG4, v4
);
family!(
    V6, FLOWS6, EMBRYO6, AFFINITY6, FRAGS6, SOCKETS6, FRONTENDS6, RANGES6, SLOTS6, BACKENDS6, CONFIG6, SCRATCH6,
    STATS6, NO_CONFIG6, v6
);

/// What is known of a device.
#[inline(always)]
pub(crate) fn device(ifindex: u32) -> Option<&'static DeviceValue> {
    // SAFETY: devices are replaced whole by the agent; a torn read is at worst one device's old and new address.
    unsafe { DEVICES.get(ifindex) }
}

/// Not 0: what comes in by this device counts as local, where clients are told apart by device.
#[inline(always)]
pub(crate) fn is_local(ifindex: u32) -> u32 {
    device(ifindex).map_or(0, |device| device.flags & device_flag::LOCAL)
}

/// Whether a network namespace has opted out of the socket hooks.
#[inline(always)]
pub(crate) fn opted_out(netns: [u32; 2]) -> bool {
    // SAFETY: only whether there is an entry counts.
    unsafe { OPT_OUT.get(netns) }.is_some()
}

/// Counts an event on this CPU. In a process's context (socket hooks) a packet may come between: it can lose a count.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: the verifier has seen the null check; the cell is this CPU's own.
        unsafe { *cell += 1 };
    }
}

/// This CPU's working memory. Programs of one kind do not interrupt each other on a CPU.
#[inline(always)]
pub(crate) fn scratch<A: FamilyMaps>() -> Option<&'static mut Scratch<A>> {
    let memory = A::scratch().get_ptr_mut(0)?;
    // SAFETY: per-CPU memory, used by one packet at a time (softirqs are off around TC and XDP).
    Some(unsafe { &mut *memory })
}
