//! A translated packet's way on: through the stack, or by redirect past it.

use super::account::account;
use super::arrival::Arrival;
use super::env::{Env, NextHop, Stage};
use super::frame::Frame;
use super::headers::Headers;
use super::outcome::{Outcome, Reason, Verdict};
use super::refuse::drop_with_icmp;
use super::rewrite::rewrite;
use super::split::{is_possible, may_be_fragmented, resolve, split};
use crate::abi::{Address, Counter, FlowValue, device_flag, flow_action, flow_kind};
use crate::wire::IpVersion;
use crate::wire::ethernet::swap_addresses;
use crate::wire::icmp::IcmpError;

/// Rewrites a flow's packet and sends it on.
#[inline(always)]
pub(super) fn translate<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
    flow: E::Flow,
) -> Outcome {
    if E::is_ingress(arrival) && flow.action != flow_action::STACK {
        return redirect_out(frame, env, arrival, headers, flow);
    }
    if !frame.mark_translated() {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    if rewrite(frame, headers, &flow, 0).is_none() {
        return Outcome::drop(Counter::DropRewrite);
    }
    let (packets, bytes) = frame.amount(headers.datagram);
    account(env, flow, packets, bytes);
    if arrival.hook.is_uplink() && !E::is_ingress(arrival) && flow.ifindex != arrival.ifindex {
        // A reply leaves by the uplink on which its request came, as long as that leads to the client.
        if env.leads(flow.ifindex, flow.src, flow.dst) {
            return Outcome::leave(Verdict::Redirect, flow.ifindex, Reason::TRANSLATED);
        }
        env.count(Counter::ReplyRerouted);
    }
    Outcome::pass(Reason::TRANSLATED)
}

/// Packets that the stack would refuse, or need not see.
#[inline(always)]
fn redirect_out<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
    flow: E::Flow,
) -> Outcome {
    if headers.hop_limit <= 1 {
        return drop_with_icmp(frame, env, arrival, headers, Counter::DropTtl, IcmpError::EXPIRED);
    }
    let mut hop = NextHop::default();
    let way = way_out::<A, F, E>(env, arrival, &flow, frame.unsegmented_len(headers.datagram), &mut hop);
    if way.reason() != Reason::TRANSLATED {
        return way;
    }
    if hop.limit != 0 && !answers_later(E::STAGE) && may_be_fragmented::<A, F>(frame) {
        if !F::KERNEL_RESOLVES {
            return Outcome::pass(Reason::HANDED_OVER);
        }
        resolve(env, flow.dst, &mut hop);
        if is_possible(frame, headers, &hop) {
            let (packets, bytes) = frame.amount(headers.datagram);
            if split(frame, env, headers, &flow, &hop).is_none() {
                return Outcome::drop(Counter::DropRewrite);
            }
            account(env, flow, packets, bytes);
            return Outcome::leave(Verdict::Redirect, hop.ifindex, Reason::TRANSLATED);
        }
    }
    if hop.limit != 0 {
        let error = IcmpError::too_big(hop.limit);
        return drop_with_icmp(frame, env, arrival, headers, Counter::DropTooBig, error);
    }
    if rewrite(frame, headers, &flow, 1).is_none() {
        return Outcome::drop(Counter::DropRewrite);
    }
    let (packets, bytes) = frame.amount(headers.datagram);
    account(env, flow, packets, bytes);
    depart(frame, way, &hop)
}

/// How a packet leaves, with the reason `TRANSLATED`, and by which next hop; else what becomes of it instead.
#[inline(always)]
pub(super) fn way_out<A: Address, F: Frame, E: Env<A>>(
    env: &E,
    arrival: Arrival,
    flow: &FlowValue<A>,
    length: u16,
    hop: &mut NextHop,
) -> Outcome {
    let leave = |verdict, ifindex| Outcome::leave(verdict, ifindex, Reason::TRANSLATED);
    // A reply to an SNAT port leaves by the uplink of its request, as long as that leads to the client.
    let uplink = if flow.kind == flow_kind::REVERSE_SNAT { flow.ifindex } else { 0 };
    if F::KERNEL_RESOLVES {
        if flow.action == flow_action::HAIRPIN {
            return leave(Verdict::Bounce, arrival.ifindex);
        }
        if flow.action == flow_action::PEER {
            return leave(Verdict::RedirectPeer, flow.out);
        }
        if let Some(found) = env.next_hop(flow.dst, if uplink == 0 { length } else { 0 }) {
            *hop = found;
        }
        if uplink != 0 && hop.ifindex != uplink {
            if env.leads(uplink, flow.src, flow.dst) {
                return leave(Verdict::Redirect, uplink);
            }
            env.count(Counter::ReplyRerouted);
        }
        if hop.ifindex == 0 && answers_later(E::STAGE) {
            // Rare, and whoever listens wants to know.
            return Outcome::later();
        }
        if hop.ifindex == 0 {
            return Outcome::drop(Counter::DropNoRoute);
        }
        return leave(Verdict::Redirect, hop.ifindex);
    }
    if flow.action == flow_action::PEER {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    let found = env.next_hop(flow.dst, if uplink == 0 { length } else { 0 });
    let Some(found) = found else { return Outcome::pass(Reason::HANDED_OVER) };
    *hop = found;
    // A packet that is too large is answered, if this program can send at all.
    let fits = hop.resolved && (uplink == 0 || hop.ifindex == uplink);
    if hop.limit != 0 || (fits && may_send::<A, F, E>(env, hop.ifindex)) {
        return leave(Verdict::Redirect, hop.ifindex);
    }
    Outcome::pass(Reason::HANDED_OVER)
}

/// Whether frames of this kind may be sent by a device, also back out of the one that they came by.
#[inline(always)]
pub(super) fn may_send<A: Address, F: Frame, E: Env<A>>(env: &E, ifindex: u32) -> bool {
    F::KERNEL_RESOLVES || env.device_flags(ifindex) & device_flag::XDP_TARGET != 0
}

/// Sends a packet that is rewritten.
#[inline(always)]
pub(super) fn depart<F: Frame>(frame: &mut F, way: Outcome, hop: &NextHop) -> Outcome {
    let prepared = match way.verdict() {
        Verdict::Bounce => swap_addresses(frame),
        Verdict::Redirect => frame.address(hop),
        _ => Some(()),
    };
    if prepared.is_some() { way } else { Outcome::drop(Counter::DropRewrite) }
}

/// Whether the first stage leaves a packet's answer to the second.
#[inline(always)]
pub(super) const fn answers_later(stage: Stage) -> bool {
    matches!(stage, Stage::First)
}
