//! The floor: what a translation of an established TCP flow costs when nothing else is asked for. Straight code with
//! fixed offsets: parse, one look-up in an LRU table, rewrite of addresses, ports and checksums.

use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR, xdp_md};
use aya_ebpf::helpers::generated::bpf_l4_csum_replace;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use lb_common::abi::{FlowKey, FlowValue, V4, V6, proto};

/// Flows, as in the data path's table of established flows.
#[map]
static FLOOR4: LruHashMap<FlowKey<V4>, FlowValue<V4>> = LruHashMap::with_max_entries(131_072, 0);
/// Flows, as in the data path's table of established flows.
#[map]
static FLOOR6: LruHashMap<FlowKey<V6>, FlowValue<V6>> = LruHashMap::with_max_entries(131_072, 0);

/// `BPF_F_IPV6` (Linux 6.16 and stable branches), which older kernels refuse.
const F_IPV6: u64 = 1 << 7;
/// Length of Ethernet, IPv4 and TCP headers, and where the last of them begins.
const LENGTH4: usize = 54;
const L4_OF_4: usize = 34;
/// The same for IPv6.
const LENGTH6: usize = 74;
const L4_OF_6: usize = 54;

/// A value at an offset of the packet.
///
/// # Safety
///
/// The caller has compared the end of the value with the end of the packet.
#[inline(always)]
unsafe fn read<T: Copy>(data: usize, offset: usize) -> T {
    // SAFETY: the caller's promise. BPF loads have no alignment of their own.
    unsafe { *((data + offset) as *const T) }
}

/// Writes a value at an offset of the packet.
///
/// # Safety
///
/// The caller has compared the end of the value with the end of the packet.
#[inline(always)]
unsafe fn write<T: Copy>(data: usize, offset: usize, value: T) {
    // SAFETY: the caller's promise. BPF stores have no alignment of their own.
    unsafe { *((data + offset) as *mut T) = value };
}

/// A checksum field after its words changed by the deltas (RFC 1624).
#[inline(always)]
fn update(field: u16, a: u16, b: u16) -> u16 {
    let sum = u32::from(!field) + u32::from(a) + u32::from(b);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}

/// A flow's ports as they lie in a packet.
#[inline(always)]
fn ports<A>(flow: &FlowValue<A>) -> u32 {
    // SAFETY: two fields of two bytes, side by side and aligned for one word.
    unsafe { *(&raw const flow.sport).cast() }
}

/// An IPv6 address by double words.
#[inline(always)]
fn words(address: &V6) -> [u64; 2] {
    let at = core::ptr::from_ref(address).cast::<u64>();
    // SAFETY: 16 bytes, which a table's value holds aligned for double words.
    unsafe { [*at, *at.add(1)] }
}

/// Looks an IPv4 packet up.
#[inline(always)]
fn lookup4(data: usize, end: usize) -> Option<&'static FlowValue<V4>> {
    if data + LENGTH4 > end {
        return None;
    }
    // SAFETY: all offsets are below the length that was just compared.
    let (ethertype, version, fragment, protocol): (u16, u8, u16, u8) =
        unsafe { (read(data, 12), read(data, 14), read(data, 20), read(data, 23)) };
    if ethertype != 0x0800_u16.to_be()
        || version != 0x45
        || fragment & 0x3fff_u16.to_be() != 0
        || protocol != proto::TCP
    {
        return None;
    }
    // SAFETY: as above.
    let (src, dst, ports): (u32, u32, u32) = unsafe { (read(data, 26), read(data, 30), read(data, 34)) };
    let key = [u64::from(src) | u64::from(dst) << 32, u64::from(ports) | u64::from(proto::TCP) << 32];
    // SAFETY: nothing changes the table while the bench runs; the words are the key's bytes.
    unsafe { FLOOR4.get(&*key.as_ptr().cast()) }
}

/// Looks an IPv6 packet up.
#[inline(always)]
fn lookup6(data: usize, end: usize) -> Option<&'static FlowValue<V6>> {
    if data + LENGTH6 > end {
        return None;
    }
    // SAFETY: all offsets are below the length that was just compared.
    let (ethertype, version, protocol): (u16, u8, u8) = unsafe { (read(data, 12), read(data, 14), read(data, 20)) };
    if ethertype != 0x86dd_u16.to_be() || version >> 4 != 6 || protocol != proto::TCP {
        return None;
    }
    // SAFETY: as above.
    let (a, b, c, d, ports): (u64, u64, u64, u64, u32) =
        unsafe { (read(data, 22), read(data, 30), read(data, 38), read(data, 46), read(data, 54)) };
    let key = [a, b, c, d, u64::from(ports) | u64::from(proto::TCP) << 32];
    // SAFETY: nothing changes the table while the bench runs; the words are the key's bytes.
    unsafe { FLOOR6.get(&*key.as_ptr().cast()) }
}

/// Translates a frame.
#[inline(always)]
pub(crate) fn xdp4(ctx: *mut xdp_md) {
    // SAFETY: the context is valid for the whole program.
    let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    let Some(flow) = lookup4(data, end) else { return };
    // SAFETY: the look-up compared the length of all headers.
    unsafe {
        write(data, 24, update(read(data, 24), flow.addr_delta, 0));
        write(data, 26, flow.src.0);
        write(data, 30, flow.dst.0);
        write(data, L4_OF_4, ports(flow));
        write(data, L4_OF_4 + 16, update(read(data, L4_OF_4 + 16), flow.addr_delta, flow.port_delta));
    }
}

/// Translates a frame.
#[inline(always)]
pub(crate) fn xdp6(ctx: *mut xdp_md) {
    // SAFETY: the context is valid for the whole program.
    let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    let Some(flow) = lookup6(data, end) else { return };
    // SAFETY: the look-up compared the length of all headers.
    unsafe {
        let [a, b] = words(&flow.src);
        let [c, d] = words(&flow.dst);
        write(data, 22, a);
        write(data, 30, b);
        write(data, 38, c);
        write(data, 46, d);
        write(data, L4_OF_6, ports(flow));
        write(data, L4_OF_6 + 16, update(read(data, L4_OF_6 + 16), flow.addr_delta, flow.port_delta));
    }
}

/// Changes the TCP checksum by the helper that knows about unfinished ones.
#[inline(always)]
fn transport(ctx: *mut __sk_buff, l4: usize, deltas: (u16, u16), flags: u64) {
    let field = l4 as u32 + 16;
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | flags;
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    unsafe { bpf_l4_csum_replace(ctx, field, 0, u64::from(deltas.0), pseudo) };
    // SAFETY: as above.
    unsafe { bpf_l4_csum_replace(ctx, field, 0, u64::from(deltas.1), 0) };
}

/// The packet's bounds, as they are now.
#[inline(always)]
fn bounds(ctx: *mut __sk_buff) -> (usize, usize) {
    // SAFETY: the context is valid for the whole program. Volatile: helpers move the packet.
    unsafe {
        ((&raw const (*ctx).data).read_volatile() as usize, (&raw const (*ctx).data_end).read_volatile() as usize)
    }
}

/// Translates a socket buffer.
#[inline(always)]
pub(crate) fn tc4(ctx: *mut __sk_buff) {
    let (data, end) = bounds(ctx);
    let Some(flow) = lookup4(data, end) else { return };
    transport(ctx, L4_OF_4, (flow.addr_delta, flow.port_delta), 0);
    let (data, end) = bounds(ctx);
    if data + LENGTH4 > end {
        return;
    }
    // SAFETY: the comparison shows all offsets to be inside the packet.
    unsafe {
        write(data, 24, update(read(data, 24), flow.addr_delta, 0));
        write(data, 26, flow.src.0);
        write(data, 30, flow.dst.0);
        write(data, L4_OF_4, ports(flow));
    }
}

/// Translates a socket buffer.
#[inline(always)]
pub(crate) fn tc6(ctx: *mut __sk_buff) {
    let (data, end) = bounds(ctx);
    let Some(flow) = lookup6(data, end) else { return };
    transport(ctx, L4_OF_6, (flow.addr_delta, flow.port_delta), F_IPV6);
    let (data, end) = bounds(ctx);
    if data + LENGTH6 > end {
        return;
    }
    let [a, b] = words(&flow.src);
    let [c, d] = words(&flow.dst);
    // SAFETY: the comparison shows all offsets to be inside the packet.
    unsafe {
        write(data, 22, a);
        write(data, 30, b);
        write(data, 38, c);
        write(data, 46, d);
        write(data, L4_OF_6, ports(flow));
    }
}
