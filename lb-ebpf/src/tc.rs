//! TC on Pods' devices and on uplinks: hands packets to the pipeline and carries out its verdicts.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type};
use aya_ebpf::programs::TcContext;
use lb_common::abi::{V4, V6, tc_rest};
use lb_common::datapath::{Arrival, Hook, Outcome, Verdict, pipeline};
use lb_common::wire::{IpVersion as _, ethernet};

use crate::context::Context as _;
use crate::env::{EGRESS, FIRST, Kernel, REST, former_comes_first};
use crate::former::{self, FORMER_TC};
use crate::maps::{self, FamilyMaps, TC_REST};
use crate::route::RouteLookup;
use crate::skb_frame::{PACKET_HOST, SENT, SkbFrame};

/// Where the network header begins on devices with a link header.
pub(crate) const ETHERNET: usize = ethernet::HEADER;
/// The same on devices without one (tun, WireGuard, IPIP).
pub(crate) const NO_HEADER: usize = 0;

/// Index in [`TC_REST`] of the program for rare packets of a direction and of this network protocol.
const fn rest_index<const L3: usize>(hook: Hook, protocol: u16) -> u32 {
    let index = match (L3, hook.is_ingress()) {
        (NO_HEADER, true) => tc_rest::TUNNEL_INGRESS,
        (NO_HEADER, false) => tc_rest::TUNNEL_EGRESS,
        (_, true) => tc_rest::INGRESS,
        (_, false) => tc_rest::EGRESS,
    };
    if protocol == V6::ETHERTYPE { index + tc_rest::V6 } else { index }
}

/// The first stage: sees every packet. `TC_ACT_UNSPEC` lets the programs behind this one see the packet, too.
#[inline(always)]
pub(crate) fn first<const L3: usize>(ctx: &TcContext, hook: Hook) -> i32 {
    let skb = ctx.skb.skb;
    let arrival = arrival(skb, hook);
    // SAFETY: the context is valid for the whole program.
    let protocol = unsafe { (*skb).protocol } as u16;
    let outcome = match (protocol, hook.is_ingress()) {
        (V4::ETHERTYPE, true) => process::<V4, L3, FIRST, false>(skb, arrival),
        (V4::ETHERTYPE, false) => process::<V4, L3, { FIRST | EGRESS }, false>(skb, arrival),
        (V6::ETHERTYPE, true) => process::<V6, L3, FIRST, false>(skb, arrival),
        (V6::ETHERTYPE, false) => process::<V6, L3, { FIRST | EGRESS }, false>(skb, arrival),
        _ => return TC_ACT_UNSPEC,
    };
    if outcome.verdict() != Verdict::Later {
        return act(skb, outcome, hook);
    }
    // The second stage reads here which hook the packet is at.
    // SAFETY: a field of the kernel's context that programs may write.
    unsafe { (*skb).cb[0] = hook as u32 };
    // SAFETY: the programs of this table are of this kind; the context is the program's own.
    unsafe { TC_REST.tail_call(ctx, rest_index::<L3>(hook, protocol)) };
    maps::count_second_stage_missing();
    TC_ACT_UNSPEC
}

/// The second stage of a direction and family: `pod` and `uplink` are its hooks.
#[inline(always)]
pub(crate) fn rest<A: FamilyMaps + RouteLookup, const L3: usize>(ctx: &TcContext, pod: Hook, uplink: Hook) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel's context, valid for the whole program.
    let hook = if unsafe { (*skb).cb[0] } == uplink as u32 { uplink } else { pod };
    let arrival = arrival(skb, hook);
    let index = rest_index::<L3>(pod, A::ETHERTYPE);
    if former_comes_first() {
        former::hand_on(ctx, &FORMER_TC, index);
    }
    let outcome = if pod.is_ingress() {
        process::<A, L3, REST, true>(skb, arrival)
    } else {
        process::<A, L3, { REST | EGRESS }, true>(skb, arrival)
    };
    if outcome.verdict() == Verdict::Later {
        former::hand_on(ctx, &FORMER_TC, index);
    }
    act(skb, outcome, pod)
}

#[inline(always)]
fn arrival(skb: *mut __sk_buff, hook: Hook) -> Arrival {
    let ifindex = skb.ifindex();
    // SAFETY: the context is valid for the whole program.
    let from = if hook.is_ingress() { ifindex } else { unsafe { (*skb).ingress_ifindex } };
    Arrival { ifindex, hook, from }
}

#[inline(always)]
fn process<A: FamilyMaps + RouteLookup, const L3: usize, const PART: u8, const DIRECT: bool>(
    skb: *mut __sk_buff,
    arrival: Arrival,
) -> Outcome {
    let env = Kernel::<PART> { ctx: skb.cast(), ifindex: arrival.ifindex };
    pipeline::process::<A, _, _>(&mut SkbFrame::<L3, DIRECT>(skb), &env, arrival)
}

/// Carries out what was decided at a hook of this direction. What goes back from a packet on its way out comes in.
#[inline(always)]
fn act(skb: *mut __sk_buff, outcome: Outcome, hook: Hook) -> i32 {
    let ifindex = outcome.ifindex();
    let back = if hook.is_ingress() { 0 } else { BPF_F_INGRESS };
    match outcome.verdict() {
        Verdict::Pass | Verdict::Later => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
        // SAFETY: a helper without pointers.
        Verdict::Bounce => unsafe { bpf_redirect(mark_sent(skb, ifindex), back.into()) as i32 },
        // SAFETY: no parameters are passed: null and zero.
        Verdict::Redirect => unsafe { bpf_redirect_neigh(mark_sent(skb, ifindex), core::ptr::null_mut(), 0, 0) as i32 },
        Verdict::RedirectPeer => into_pod(skb, ifindex),
    }
}

/// Says to the program at the device that the packet leaves by that Sluice has sent it.
#[inline(always)]
fn mark_sent(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    // SAFETY: a field of the kernel's context that programs may write.
    unsafe { (*skb).tc_index = SENT };
    ifindex
}

/// To the other end of a Pod's device.
#[inline(always)]
fn into_pod(skb: *mut __sk_buff, ifindex: u32) -> i32 {
    // From a bridge's port the packet was addressed to the bridge; the Pod would take it for somebody else's.
    // SAFETY: the context is valid for the whole program.
    if unsafe { (*skb).pkt_type } != PACKET_HOST {
        // SAFETY: the context is the program's own. A refusal cannot be helped: the Pod drops the packet then.
        unsafe { bpf_skb_change_type(skb, PACKET_HOST) };
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
}
