//! Sluice's kernel programs: entry points only. What happens to a packet is decided in `lb_common::datapath`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(
    internal_features,
    reason = "the target has an atomic addition, but `core::sync::atomic` wants an exchange, too"
)]
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
mod counts;
mod env;
mod flows;
mod former;
mod fragments;
mod maps;
mod route;
mod skb_frame;
mod socket;
mod socket_hooks;
mod socket_ops;
mod tc;
mod xdp;
mod xdp_frame;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::abi::{V4, V6};
use lb_common::datapath::Hook;

use crate::tc::{ETHERNET, NO_HEADER};

/// Packets that a Pod sends.
#[classifier]
pub fn pod_ingress(ctx: TcContext) -> i32 {
    tc::first::<ETHERNET>(&ctx, Hook::PodIngress)
}

/// Packets on their way into a Pod.
#[classifier]
pub fn pod_egress(ctx: TcContext) -> i32 {
    tc::first::<ETHERNET>(&ctx, Hook::PodEgress)
}

/// Packets that come in from outside.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    tc::first::<ETHERNET>(&ctx, Hook::UplinkIngress)
}

/// Packets that leave the node.
#[classifier]
pub fn uplink_egress(ctx: TcContext) -> i32 {
    tc::first::<ETHERNET>(&ctx, Hook::UplinkEgress)
}

/// Rare packets that come in: those that begin or end something, errors, fragments, options. IPv4.
#[classifier]
pub fn ingress_rest4(ctx: TcContext) -> i32 {
    tc::rest::<V4, ETHERNET>(&ctx, Hook::PodIngress, Hook::UplinkIngress)
}

/// The same, IPv6. A program for each family: the verifier works on both at a time, and that is most of an agent's start.
#[classifier]
pub fn ingress_rest6(ctx: TcContext) -> i32 {
    tc::rest::<V6, ETHERNET>(&ctx, Hook::PodIngress, Hook::UplinkIngress)
}

/// Rare packets that leave, IPv4.
#[classifier]
pub fn egress_rest4(ctx: TcContext) -> i32 {
    tc::rest::<V4, ETHERNET>(&ctx, Hook::PodEgress, Hook::UplinkEgress)
}

/// Rare packets that leave, IPv6.
#[classifier]
pub fn egress_rest6(ctx: TcContext) -> i32 {
    tc::rest::<V6, ETHERNET>(&ctx, Hook::PodEgress, Hook::UplinkEgress)
}

/// Packets that come in by a device without link header, such as a WireGuard tunnel.
#[classifier]
pub fn tunnel_ingress(ctx: TcContext) -> i32 {
    tc::first::<NO_HEADER>(&ctx, Hook::UplinkIngress)
}

/// Packets that leave by a device without link header.
#[classifier]
pub fn tunnel_egress(ctx: TcContext) -> i32 {
    tc::first::<NO_HEADER>(&ctx, Hook::UplinkEgress)
}

/// Rare packets that come in by a device without link header, IPv4.
#[classifier]
pub fn tunnel_in_rest4(ctx: TcContext) -> i32 {
    tc::rest::<V4, NO_HEADER>(&ctx, Hook::UplinkIngress, Hook::UplinkIngress)
}

/// Rare packets that come in by a device without link header, IPv6.
#[classifier]
pub fn tunnel_in_rest6(ctx: TcContext) -> i32 {
    tc::rest::<V6, NO_HEADER>(&ctx, Hook::UplinkIngress, Hook::UplinkIngress)
}

/// Rare packets that leave by a device without link header, IPv4.
#[classifier]
pub fn tunnel_out_rest4(ctx: TcContext) -> i32 {
    tc::rest::<V4, NO_HEADER>(&ctx, Hook::UplinkEgress, Hook::UplinkEgress)
}

/// Rare packets that leave by a device without link header, IPv6.
#[classifier]
pub fn tunnel_out_rest6(ctx: TcContext) -> i32 {
    tc::rest::<V6, NO_HEADER>(&ctx, Hook::UplinkEgress, Hook::UplinkEgress)
}

/// Packets that come in from outside, before an skb is made of them.
#[xdp(frags)]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    xdp::first::<true>(&ctx, &maps::XDP_REST)
}

/// Rare packets of those, IPv4.
#[xdp(frags)]
pub fn xdp_rest4(ctx: XdpContext) -> u32 {
    xdp::rest::<V4, true>(&ctx)
}

/// Rare packets of those, IPv6.
#[xdp(frags)]
pub fn xdp_rest6(ctx: XdpContext) -> u32 {
    xdp::rest::<V6, true>(&ctx)
}

/// `uplink_xdp` for kernels before 5.18, which refuse a program that says it can do with frames in fragments.
#[xdp]
pub fn uplink_xdp_linear(ctx: XdpContext) -> u32 {
    xdp::first::<false>(&ctx, &maps::XDP_LINEAR_REST)
}

/// `xdp_rest4` for these.
#[xdp]
pub fn xdp_rest4_linear(ctx: XdpContext) -> u32 {
    xdp::rest::<V4, false>(&ctx)
}

/// `xdp_rest6` for these.
#[xdp]
pub fn xdp_rest6_linear(ctx: XdpContext) -> u32 {
    xdp::rest::<V6, false>(&ctx)
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
