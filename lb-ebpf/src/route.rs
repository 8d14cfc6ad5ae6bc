//! Route look-ups (`bpf_fib_lookup`), for packets that leave by redirect.

use core::ffi::c_void;
use core::mem::{size_of, zeroed};

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_OUTPUT,
    bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use lb_common::abi::{V4, V6};
use lb_common::datapath::NextHop;
use lb_common::wire::IpVersion;

const AF_INET: u8 = 2;
/// Sockets of it have dealings in both families (`linux/socket.h`).
pub(crate) const AF_INET6: u8 = 10;

/// How to fill in an address family's part of a look-up.
pub(crate) trait RouteLookup: IpVersion {
    /// Writes family and destination.
    fn fill(params: &mut bpf_fib_lookup, dst: Self);
    /// Writes the source, which rules may ask for.
    fn fill_source(params: &mut bpf_fib_lookup, src: Self);
}

impl RouteLookup for V4 {
    #[inline(always)]
    fn fill(params: &mut bpf_fib_lookup, dst: Self) {
        params.family = AF_INET;
        params.__bindgen_anon_4.ipv4_dst = dst.0;
    }

    #[inline(always)]
    fn fill_source(params: &mut bpf_fib_lookup, src: Self) {
        params.__bindgen_anon_3.ipv4_src = src.0;
    }
}

impl RouteLookup for V6 {
    #[inline(always)]
    fn fill(params: &mut bpf_fib_lookup, dst: Self) {
        params.family = AF_INET6;
        params.__bindgen_anon_4.ipv6_dst = dst.0;
    }

    #[inline(always)]
    fn fill_source(params: &mut bpf_fib_lookup, src: Self) {
        params.__bindgen_anon_3.ipv6_src = src.0;
    }
}

/// Asks the kernel's routing table for the way to `dst`, as for a packet of `length` bytes (network header and all; 0:
/// not known, or it will be cut up) that came in by `ifindex`.
#[inline(always)]
pub(crate) fn lookup_route<A: RouteLookup>(ctx: *mut c_void, ifindex: u32, dst: A, length: u16) -> Option<NextHop> {
    // SAFETY: a C struct of integers and unions of integers; all zeroes is valid.
    let mut params: bpf_fib_lookup = unsafe { zeroed() };
    params.ifindex = ifindex;
    params.__bindgen_anon_1.tot_len = length;
    A::fill(&mut params, dst);
    // SAFETY: the context is the program's own, the struct is initialized and its size is passed along.
    let ret = unsafe { fib_lookup(ctx, &raw mut params, size_of::<bpf_fib_lookup>() as i32, 0) };
    let known = ret == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
        || ret == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
        || ret == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED);
    if !known {
        return None;
    }
    let large = length != 0 && ret == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED);
    // SAFETY: both fields of the union are the same integer.
    let told = unsafe { params.__bindgen_anon_1.mtu_result };
    // Before Linux 5.12 the length that was asked about is still there: no limit is known.
    let limit = if large && told != length { told } else { 0 };
    let (d, s) = (params.dmac, params.smac);
    Some(NextHop {
        ifindex: params.ifindex,
        limit,
        resolved: ret == i64::from(BPF_FIB_LKUP_RET_SUCCESS),
        ethernet: [
            u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
            u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
            u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
        ],
    })
}

/// Whether a packet from `src` to `dst` has a route out of this device. Without one, the kernel would take a
/// packet that is redirected there for one to a neighbour.
#[inline(always)]
pub(crate) fn leads<A: RouteLookup>(ctx: *mut c_void, ifindex: u32, src: A, dst: A) -> bool {
    // SAFETY: a C struct of integers and unions of integers; all zeroes is valid.
    let mut params: bpf_fib_lookup = unsafe { zeroed() };
    params.ifindex = ifindex;
    A::fill(&mut params, dst);
    A::fill_source(&mut params, src);
    let (size, output) = (size_of::<bpf_fib_lookup>() as i32, BPF_FIB_LOOKUP_OUTPUT);
    // SAFETY: the context is the program's own, the struct is initialized and its size is passed along.
    let ret = unsafe { fib_lookup(ctx, &raw mut params, size, output) };
    let known = ret == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
        || ret == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
        || ret == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED);
    known && params.ifindex == ifindex
}
