//! All maps of the data path, declared from the catalogue (`lb_common::abi::tables`). Capacities here are those of the
//! object; the agent overrides them at load. Maps that no program reads are made by the agent alone.
#![allow(
    clippy::wildcard_imports,
    reason = "the catalogue names every type of the module, and so does what follows it"
)]

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use lb_common::abi::*;
use lb_common::datapath::{Headers, Scratch, Workspace};
use lb_common::tables;

use crate::former::FormerMaps;

/// The type of a map.
macro_rules! map_type {
    (Hash $key:ty, $value:ty) => { HashMap<$key, $value> };
    (LruHash $key:ty, $value:ty) => { LruHashMap<$key, $value> };
    (LpmTrie $key:ty, $value:ty) => { LpmTrie<$key, $value> };
    (Array $key:ty, $value:ty) => { Array<$value> };
    (PerCpuArray $key:ty, $value:ty) => { PerCpuArray<$value> };
    (ProgramArray $key:ty, $value:ty) => { aya_ebpf::maps::ProgramArray };
    (RingBuf $key:ty, $value:ty) => { aya_ebpf::maps::RingBuf };
}

/// Makes one of so many entries, or bytes.
macro_rules! make {
    (RingBuf $key:ty, $value:ty, $entries:expr, $flags:expr) => {
        aya_ebpf::maps::RingBuf::with_byte_size($entries, $flags)
    };
    ($kind:ident $key:ty, $value:ty, $entries:expr, $flags:expr) => {
        <map_type!($kind $key, $value)>::with_max_entries($entries, $flags)
    };
}

macro_rules! declare {
    ($($(#[$doc:meta])* $table:ident $name:ident $kind:ident($key:ty => $value:ty);)*) => {
        $(
            $(#[$doc])*
            #[map]
            pub(crate) static $name: map_type!($kind $key, $value) =
                make!($kind $key, $value, tables::$table.entries_in_object(), tables::$table.flags);
        )*
    };
}

macro_rules! family {
    (Self: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        /// The maps of one address family.
        pub(crate) trait FamilyMaps: FormerMaps {
            $($(#[$doc])* fn $accessor() -> &'static map_type!($kind $key, $value);)*
            /// Settings while the agent has written none: nothing matches.
            fn no_config() -> &'static FamilyConfig<Self>;
            /// The device's address of this family.
            fn of_device(device: &DeviceValue) -> Self;
        }
    };
    (V4: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        declare! { $($(#[$doc])* $table $v4 $kind($key => $value);)* }
        accessors! { V4 v4 NO_CONFIG4: $($accessor $v4 $kind($key => $value);)* }
    };
    (V6: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        declare! { $($(#[$doc])* $table $v6 $kind($key => $value);)* }
        accessors! { V6 v6 NO_CONFIG6: $($accessor $v6 $kind($key => $value);)* }
    };
}

macro_rules! accessors {
    ($addr:ident $device:ident $no_config:ident: $($accessor:ident $name:ident $kind:ident($key:ty => $value:ty);)*) => {
        static $no_config: FamilyConfig<$addr> = FamilyConfig {
            abi: 0,
            flags: 0,
            node: $addr::ZERO,
            vip_lo: $addr::ZERO,
            vip_hi: $addr::ZERO,
            cluster: [Cidr { net: $addr::ZERO, mask: $addr::ZERO }; 4],
            services: [Cidr { net: $addr::ZERO, mask: $addr::ZERO }; 2],
            snat_lo: Be16(0),
            snat_hi: Be16(0),
            host_netns: [0; 2],
            forward: forward_mode::STACK,
            reserved: [0; 7],
        };

        impl FamilyMaps for $addr {
            $(
                #[inline(always)]
                fn $accessor() -> &'static map_type!($kind $key, $value) {
                    &$name
                }
            )*
            #[inline(always)]
            fn no_config() -> &'static FamilyConfig<Self> {
                &$no_config
            }
            #[inline(always)]
            fn of_device(device: &DeviceValue) -> Self {
                device.$device
            }
        }
    };
}

macro_rules! single {
    ($($(#[$doc:meta])* $table:ident $accessor:ident [$name:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        declare! { $($(#[$doc])* $table $name $kind($key => $value);)* }
    };
}

tables!(family, Self, family);
tables!(family, V4, family);
tables!(family, V6, family);
tables!(single, single);

/// What is known of a device.
#[inline(always)]
pub(crate) fn device(ifindex: u32) -> Option<&'static DeviceValue> {
    // SAFETY: devices are replaced whole by the agent; a torn read is at worst one device's old and new address.
    unsafe { DEVICES.get(ifindex) }
}

/// Whether a network namespace has opted out of the socket hooks.
#[inline(always)]
pub(crate) fn opted_out(netns: [u32; 2]) -> bool {
    // SAFETY: only whether there is an entry counts.
    unsafe { OPT_OUT.get(netns) }.is_some()
}

/// Counts an event on this CPU. In a process's context (socket hooks) a packet may come between: it can lose a count.
#[inline(always)]
pub(crate) fn count(index: u32) {
    if let Some(cell) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the verifier has seen the null check; the cell is this CPU's own.
        unsafe { *cell += 1 };
    }
}

/// The program for rare packets is not there.
#[inline(always)]
pub(crate) fn count_second_stage_missing() {
    count(Counter::SecondStageMissing.index());
}

pub(crate) use lb_common::abi::lately::{OVERFLOW, REMAP};

/// When an event of the family last happened, in ticks; 0: never.
#[inline(always)]
pub(crate) fn last<A: FamilyMaps>(event: u32) -> u32 {
    LATELY.get(event + u32::from(A::IS_V6)).copied().unwrap_or(1)
}

/// Which half of the flow filter knows every flow: 1 or 2; 0: none.
#[inline(always)]
pub(crate) fn complete_half<A: FamilyMaps>() -> u32 {
    LATELY.get(lately::FLOW_FILTER + u32::from(A::IS_V6)).copied().unwrap_or(0)
}

/// How far a successor with other tables is: one of [`handover`].
#[inline(always)]
pub(crate) fn handover() -> u32 {
    HANDOVER.get(0).copied().unwrap_or(handover::NONE)
}

/// Notes that it did: never 0, which says that it did not.
#[inline(always)]
pub(crate) fn set_last<A: FamilyMaps>(event: u32, ticks: u32) {
    if let Some(cell) = LATELY.get_ptr_mut(event + u32::from(A::IS_V6)) {
        // SAFETY: an aligned word; whichever of two processors writes last, it is recent.
        unsafe { *cell = ticks | 1 };
    }
}

/// This CPU's room for headers. Programs of one kind do not interrupt each other on a CPU.
#[inline(always)]
pub(crate) fn headers<A: FamilyMaps>() -> Option<&'static mut Headers<A>> {
    let memory = A::scratch().get_ptr_mut(0)?;
    // SAFETY: per-CPU memory, used by one packet at a time (softirqs are off around TC and XDP), and asked for once.
    Some(unsafe { &mut (*memory).headers })
}

/// This CPU's place for an outcome.
#[inline(always)]
pub(crate) fn outcome<A: FamilyMaps>() -> Option<*mut u64> {
    let memory = A::scratch().get_ptr_mut(0)?;
    // SAFETY: a field of the value that was just found.
    Some(unsafe { &raw mut (*memory).outcome })
}

/// This CPU's working memory.
#[inline(always)]
pub(crate) fn scratch<A: FamilyMaps>() -> Option<&'static mut Scratch<A>> {
    let memory = A::scratch().get_ptr_mut(0)?;
    // SAFETY: as above; whoever asks again has let go what it had.
    Some(unsafe { &mut (*memory).scratch })
}

/// Adds to a number that all processors add to. A busy flow's packets are added together, so they do it rarely.
#[inline(always)]
pub(crate) fn add(number: &u64, more: u32) {
    let number = core::ptr::from_ref(number).cast_mut();
    // SAFETY: memory of the map, aligned to 8 bytes, which all programs change in this way; the agent writes a cell only
    // between two backends.
    let _before = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, u64::from(more)) };
}

/// The same downwards, by all ones: what is added wraps.
#[inline(always)]
pub(crate) fn subtract_one(number: &u64) {
    let number = core::ptr::from_ref(number).cast_mut();
    // SAFETY: as above.
    let _before = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, u64::MAX) };
}

/// The same for a word, which wraps: all ones take one away.
#[inline(always)]
pub(crate) fn add_word(number: &u32, more: u32) {
    let number = core::ptr::from_ref(number).cast_mut();
    // SAFETY: as above, aligned to 4 bytes; the agent changes it in this way, too.
    let _before = unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(number, more) };
}
