//! XDP on uplinks: hands frames to the pipeline and carries out its verdicts.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{V4, V6, xdp_rest};
use lb_common::datapath::{Arrival, Hook, Outcome, Verdict, pipeline};
use lb_common::wire::{IpVersion as _, Read as _, ethernet};

use crate::context::Context as _;
use crate::env::{FIRST, Kernel, REST, former_comes_first};
use crate::former::{self, FORMER_XDP, FORMER_XDP_LIN};
use crate::maps::{self, FamilyMaps};
use crate::route::RouteLookup;
use crate::xdp_frame::XdpFrame;

/// The first stage: sees every frame. `FRAGS`: also those of several buffers. `rest`: the table that its second stage is in.
#[inline(always)]
pub(crate) fn first<const FRAGS: bool>(ctx: &XdpContext, rest: &ProgramArray) -> u32 {
    let (outcome, index) = match XdpFrame::<FRAGS>(ctx.ctx).u16_at(ethernet::ETHERTYPE) {
        Some(V4::ETHERTYPE) => (process::<V4, FIRST, FRAGS>(ctx.ctx), xdp_rest::V4),
        Some(V6::ETHERTYPE) => (process::<V6, FIRST, FRAGS>(ctx.ctx), xdp_rest::V6),
        _ => return XDP_PASS,
    };
    if outcome.verdict() != Verdict::Later {
        return act(ctx.ctx, outcome);
    }
    // SAFETY: the programs of this table are of this kind; the context is the program's own.
    unsafe { rest.tail_call(ctx, index) };
    maps::count_second_stage_missing();
    XDP_PASS
}

/// The second stage of a family.
#[inline(always)]
pub(crate) fn rest<A: FamilyMaps + RouteLookup, const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    let stages = if FRAGS { &FORMER_XDP } else { &FORMER_XDP_LIN };
    let index = if A::IS_V6 { xdp_rest::V6 } else { xdp_rest::V4 };
    if former_comes_first() {
        former::hand_on(ctx, stages, index);
    }
    let outcome = process::<A, REST, FRAGS>(ctx.ctx);
    if outcome.verdict() == Verdict::Later {
        former::hand_on(ctx, stages, index);
    }
    act(ctx.ctx, outcome)
}

#[inline(always)]
fn process<A: FamilyMaps + RouteLookup, const PART: u8, const FRAGS: bool>(md: *mut xdp_md) -> Outcome {
    let ifindex = md.ifindex();
    let arrival = Arrival { ifindex, hook: Hook::UplinkIngress, from: ifindex };
    let env = Kernel::<PART> { ctx: md.cast(), ifindex };
    pipeline::process::<A, _, _>(&mut XdpFrame::<FRAGS>(md), &env, arrival)
}

#[inline(always)]
fn act(md: *mut xdp_md, outcome: Outcome) -> u32 {
    match outcome.verdict() {
        Verdict::Pass | Verdict::Later | Verdict::RedirectPeer => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Bounce => XDP_TX,
        Verdict::Redirect if outcome.ifindex() == md.ifindex() => XDP_TX,
        // SAFETY: a helper without pointers.
        Verdict::Redirect => unsafe { bpf_redirect(outcome.ifindex(), 0) as u32 },
    }
}
