//! Sluice's kernel programs: entry points only. What happens to a packet is decided in `lb_common::datapath`.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the entry points are documented; what the attribute macros generate is not")]
#![allow(unreachable_pub, reason = "entry points are symbols of the object, not of a crate")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "helpers take and return machine words, whose ranges the kernel fixes"
)]
#![allow(clippy::cast_possible_wrap, reason = "lengths of packets are far below the sign bit")]
#![allow(clippy::cast_sign_loss, reason = "verdicts and interface indices are not negative")]
#![allow(clippy::needless_pass_by_value, reason = "the entry point macros hand contexts over by value")]
#![allow(unsafe_code, reason = "helpers, maps and packet memory are reached through raw pointers")]

mod access;
mod context;
mod env;
mod maps;
mod route;
mod socket;
mod socket_hooks;
mod tc;
mod tc_packet;
mod xdp;
mod xdp_packet;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::tc::{ETHERNET, Hook, NO_HEADER};

fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// Packets that a Pod sends.
#[classifier]
pub fn pod_ingress(ctx: TcContext) -> i32 {
    tc::run::<ETHERNET>(skb(&ctx), Hook::PodIngress)
}

/// Packets on their way into a Pod.
#[classifier]
pub fn pod_egress(ctx: TcContext) -> i32 {
    tc::run::<ETHERNET>(skb(&ctx), Hook::PodEgress)
}

/// Packets that come in from outside.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    tc::run::<ETHERNET>(skb(&ctx), Hook::UplinkIngress)
}

/// Packets that leave the node.
#[classifier]
pub fn uplink_egress(ctx: TcContext) -> i32 {
    tc::run::<ETHERNET>(skb(&ctx), Hook::UplinkEgress)
}

/// Packets that come in by a device without link header, such as a WireGuard tunnel.
#[classifier]
pub fn tunnel_ingress(ctx: TcContext) -> i32 {
    tc::run::<NO_HEADER>(skb(&ctx), Hook::UplinkIngress)
}

/// Packets that leave by a device without link header.
#[classifier]
pub fn tunnel_egress(ctx: TcContext) -> i32 {
    tc::run::<NO_HEADER>(skb(&ctx), Hook::UplinkEgress)
}

/// Packets that come in from outside, before an skb is made of them.
#[xdp(frags)]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    let md: *mut xdp_md = ctx.ctx;
    xdp::run(md)
}

/// The same for kernels before 5.18, which refuse a program that says it can do with frames in fragments.
#[xdp]
pub fn uplink_xdp_linear(ctx: XdpContext) -> u32 {
    let md: *mut xdp_md = ctx.ctx;
    xdp::run(md)
}

/// Low 31 bits of the kernel's jiffies, for the agent to find their frequency with.
#[classifier]
pub fn ticks(_ctx: TcContext) -> i32 {
    // SAFETY: the helper has no arguments and no preconditions.
    let jiffies = unsafe { aya_ebpf::helpers::generated::bpf_jiffies64() };
    (jiffies & 0x7fff_ffff) as i32
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
