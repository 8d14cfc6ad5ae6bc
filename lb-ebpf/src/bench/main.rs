//! Kernel side of the bench: programs that put a packet's headers back and hand it to the program under test, and the
//! programs that it is measured against: one that does nothing, one that does the least a translation needs, and one
//! that inserts a flow.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the entry points are documented; what the attribute macros generate is not")]
#![allow(unreachable_pub, reason = "entry points are symbols of the object, not of a crate")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "checksum folds and packet lengths, as in the programs it is held against"
)]
#![allow(clippy::cast_possible_wrap, reason = "lengths of packets are far below the sign bit")]
#![allow(clippy::cast_sign_loss, reason = "verdicts are not negative")]
#![allow(clippy::cast_ptr_alignment, reason = "BPF loads have no alignment of their own")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "the floor is straight code on packet memory")]
#![allow(clippy::needless_borrows_for_generic_args, reason = "the key is borrowed from packet memory, not copied")]
#![allow(clippy::needless_pass_by_value, reason = "the entry point macros hand contexts over by value")]
#![allow(unsafe_code, reason = "helpers, maps and packet memory are reached through raw pointers")]

mod floor;
mod insert;
mod restore;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};

/// The XDP program under test, at index 0.
#[map]
static NEXT_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The TC program under test, at index 0.
#[map]
static NEXT_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The device by which `send_xdp` sends, at index 0.
#[map]
static SEND_TO: Array<u32> = Array::with_max_entries(1, 0);
/// Packets that `sink_tc` has swallowed, at index 0.
#[map]
static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Makes an entry point that restores a packet and tail-calls the program under test. Coming back is a failure.
macro_rules! wrapper {
    ($attribute:ident $(($option:ident))?, $name:ident, $context:ty, $next:ident, $restore:path, $failed:expr, $ret:ty) => {
        #[$attribute $(($option))?]
        pub fn $name(ctx: $context) -> $ret {
            if $restore(ctx.as_ptr().cast()) {
                // SAFETY: nothing here needs to be dropped, so control may leave for good.
                unsafe { $next.tail_call(&ctx, 0) };
            }
            $failed as $ret
        }
    };
}

wrapper!(xdp(frags), restore_xdp4, XdpContext, NEXT_XDP, restore::xdp::<restore::V4>, XDP_ABORTED, u32);
wrapper!(xdp(frags), restore_xdp6, XdpContext, NEXT_XDP, restore::xdp::<restore::V6>, XDP_ABORTED, u32);
wrapper!(classifier, restore_tc4, TcContext, NEXT_TC, restore::tc::<restore::V4>, TC_ACT_SHOT, i32);
wrapper!(classifier, restore_tc6, TcContext, NEXT_TC, restore::tc::<restore::V6>, TC_ACT_SHOT, i32);

/// Nothing: what is left of a measurement of this is the harness.
#[xdp(frags)]
pub fn empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing: what is left of a measurement of this is the harness.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Sends a frame by another device: with live frames a packet generator.
#[xdp(frags)]
pub fn send_xdp(_ctx: XdpContext) -> u32 {
    let Some(device) = SEND_TO.get(0) else { return XDP_ABORTED };
    // SAFETY: takes and gives plain numbers.
    unsafe { bpf_redirect(*device, 0) as u32 }
}

/// Counts an IPv4 packet and swallows it. Neighbours still find each other.
#[classifier]
pub fn sink_tc(ctx: TcContext) -> i32 {
    const IPV4: u32 = 0x0800_u16.to_be() as u32;
    // SAFETY: the context is valid for the whole program.
    if unsafe { (*ctx.skb.skb).protocol } != IPV4 {
        return TC_ACT_UNSPEC;
    }
    if let Some(count) = SUNK.get_ptr_mut(0) {
        // SAFETY: the verifier has seen the null check; each processor has its own number.
        unsafe { *count += 1 };
    }
    TC_ACT_SHOT
}

/// The least that a translation of TCP over IPv4 needs.
#[xdp(frags)]
pub fn floor_xdp4(ctx: XdpContext) -> u32 {
    floor::xdp4(ctx.ctx);
    XDP_PASS
}

/// The least that a translation of TCP over IPv6 needs.
#[xdp(frags)]
pub fn floor_xdp6(ctx: XdpContext) -> u32 {
    floor::xdp6(ctx.ctx);
    XDP_PASS
}

/// The least that a translation of TCP over IPv4 needs.
#[classifier]
pub fn floor_tc4(ctx: TcContext) -> i32 {
    floor::tc4(ctx.as_ptr().cast());
    TC_ACT_UNSPEC
}

/// The least that a translation of TCP over IPv6 needs.
#[classifier]
pub fn floor_tc6(ctx: TcContext) -> i32 {
    floor::tc6(ctx.as_ptr().cast());
    TC_ACT_UNSPEC
}

/// One insert into a full LRU table.
#[xdp(frags)]
pub fn insert_xdp4(ctx: XdpContext) -> u32 {
    insert::xdp4(ctx.ctx);
    XDP_PASS
}

/// One insert into a full LRU table.
#[xdp(frags)]
pub fn insert_xdp6(ctx: XdpContext) -> u32 {
    insert::xdp6(ctx.ctx);
    XDP_PASS
}

/// One insert into a full LRU table.
#[classifier]
pub fn insert_tc4(ctx: TcContext) -> i32 {
    insert::tc4(ctx.as_ptr().cast());
    TC_ACT_UNSPEC
}

/// One insert into a full LRU table.
#[classifier]
pub fn insert_tc6(ctx: TcContext) -> i32 {
    insert::tc6(ctx.as_ptr().cast());
    TC_ACT_UNSPEC
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// License of the object: the kernel lets only GPL-compatible programs call some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
