//! One insert into a full LRU table, which takes another entry's place: what a new flow costs at the very least.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use lb_common::abi::{FlowKey, FlowValue, V4, V6, proto};

/// Flows: as many as the data path's table of new ones has room for, far fewer than come.
#[map]
static INSERT4: LruHashMap<FlowKey<V4>, FlowValue<V4>> = LruHashMap::with_max_entries(65_536, 0);
/// Flows: as many as the data path's table of new ones has room for, far fewer than come.
#[map]
static INSERT6: LruHashMap<FlowKey<V6>, FlowValue<V6>> = LruHashMap::with_max_entries(65_536, 0);

/// Up to the ports.
const LENGTH4: usize = 38;
const LENGTH6: usize = 58;

/// A word of the packet.
///
/// # Safety
///
/// The caller has compared the end of the word with the end of the packet.
#[inline(always)]
unsafe fn word(data: usize, offset: usize) -> u64 {
    // SAFETY: the caller's promise. BPF loads need no alignment.
    unsafe { u64::from(*((data + offset) as *const u32)) }
}

/// Inserts the flow of an IPv4 packet.
#[inline(always)]
fn insert4(data: usize, end: usize) {
    if data + LENGTH4 > end {
        return;
    }
    // SAFETY: all offsets are below the length that was just compared.
    let (src, dst, ports) = unsafe { (word(data, 26), word(data, 30), word(data, 34)) };
    let key = [src | dst << 32, ports | u64::from(proto::TCP) << 32];
    // SAFETY: the words are the key's bytes.
    let key = unsafe { &*key.as_ptr().cast::<FlowKey<V4>>() };
    let _full_of_entries_in_use = INSERT4.insert(key, FlowValue::default(), 0);
}

/// Inserts the flow of an IPv6 packet.
#[inline(always)]
fn insert6(data: usize, end: usize) {
    if data + LENGTH6 > end {
        return;
    }
    let mut key = [0u64; 5];
    // SAFETY: all offsets are below the length that was just compared.
    unsafe {
        key[0] = word(data, 22) | word(data, 26) << 32;
        key[1] = word(data, 30) | word(data, 34) << 32;
        key[2] = word(data, 38) | word(data, 42) << 32;
        key[3] = word(data, 46) | word(data, 50) << 32;
        key[4] = word(data, 54) | u64::from(proto::TCP) << 32;
    }
    // SAFETY: the words are the key's bytes.
    let key = unsafe { &*key.as_ptr().cast::<FlowKey<V6>>() };
    let _full_of_entries_in_use = INSERT6.insert(key, FlowValue::default(), 0);
}

/// Where a frame begins and ends.
#[inline(always)]
fn frame(ctx: *mut xdp_md) -> (usize, usize) {
    // SAFETY: the context is valid for the whole program.
    unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) }
}

/// Where a socket buffer's packet begins and ends.
#[inline(always)]
fn packet(ctx: *mut __sk_buff) -> (usize, usize) {
    // SAFETY: the context is valid for the whole program.
    unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) }
}

/// For XDP.
#[inline(always)]
pub(crate) fn xdp4(ctx: *mut xdp_md) {
    let (data, end) = frame(ctx);
    insert4(data, end);
}

/// For XDP.
#[inline(always)]
pub(crate) fn xdp6(ctx: *mut xdp_md) {
    let (data, end) = frame(ctx);
    insert6(data, end);
}

/// For TC.
#[inline(always)]
pub(crate) fn tc4(ctx: *mut __sk_buff) {
    let (data, end) = packet(ctx);
    insert4(data, end);
}

/// For TC.
#[inline(always)]
pub(crate) fn tc6(ctx: *mut __sk_buff) {
    let (data, end) = packet(ctx);
    insert6(data, end);
}
