//! Direct connections to a Pod that reuse the tuple of a translated flow: their replies must not be translated.

use super::arrival::Arrival;
use super::closing::is_over;
use super::env::Env;
use super::flow::{
    forward_key, has_seen_answer, is_finished, is_of, leads_to, refresh, remove_established, reverse_key,
};
use super::headers::Headers;
use super::limit::may_move;
use super::scope::is_foreign;
use super::scratch::Scratch;
use crate::abi::{Address, FlowKey, FlowValue, flow_action, flow_kind};
use crate::wire::checksum;

/// What becomes of a packet that goes to no frontend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    /// No flow has to do with it.
    Other,
    /// It belongs to a direct connection with another port: `scratch.forward`.
    Known,
    /// It begins one: `scratch.forward` and `scratch.reverse`.
    Begins,
}

/// A packet that goes to no frontend. If it goes straight to a Pod and has the tuple of a translated flow, its replies
/// would be taken for that flow's. The direct connection gets another source port; if the translated flow is over, that
/// is forgotten instead.
#[inline(never)]
pub(super) fn remapped<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Direct {
    let key = &headers.key;
    let half_open = env.half_open(key);
    if (half_open.is_none() && env.flow(key).is_none()) || is_foreign(env, key.src, arrival.from) {
        return Direct::Other;
    }
    // Whether the translated flow is still there or not.
    if let Some(direct) = half_open
        && direct.kind == flow_kind::DIRECT
    {
        scratch.reverse_key = reverse_key(&direct, key.proto);
        if !headers.opens() {
            scratch.forward = *refresh(env, headers, direct);
            answer_seen(env, headers, scratch);
            return Direct::Known;
        }
        if !begins_anew(env, key, &direct, scratch) {
            scratch.forward = *env.touch(env.renumber(direct, headers.end));
            return Direct::Known;
        }
    }
    if !headers.may_open() {
        // It began before the translated flow: too late to give it another port.
        return Direct::Other;
    }
    let Some(flow) = translated(env, key, scratch) else { return Direct::Other };
    if is_finished(env, key, &flow) {
        if headers.opens() {
            remove_established(env, key, &flow);
        }
        return Direct::Other;
    }
    draft(env, headers, flow.ifindex, scratch);
    Direct::Begins
}

/// The client's packet of a direct connection, whose entry is in `scratch.forward`: its reverse entry is established once the
/// client has seen its backend's answer. The other one stays: its tuple is a Service flow's among the established.
#[inline(never)]
fn answer_seen<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &Scratch<A>) {
    if let Some(reverse) = env.half_open(&scratch.reverse_key)
        && leads_to(&reverse, &headers.key)
        && has_seen_answer(headers, &reverse)
    {
        if env.insert_flow(&scratch.reverse_key, &reverse) {
            env.remove_half_open(&scratch.reverse_key);
        } else {
            env.note_overflow();
        }
    }
}

/// Whether a direct connection with another port is over, so that a SYN begins another. Then its entries are gone.
#[inline(never)]
fn begins_anew<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, direct: &FlowValue<A>, scratch: &Scratch<A>) -> bool {
    let reverse_key = &scratch.reverse_key;
    let Some(reverse) = env.flow(reverse_key).filter(|reverse| leads_to(reverse, key)) else {
        return false;
    };
    if !is_over(direct.state, reverse.state) {
        return false;
    }
    env.remove_flow(reverse_key);
    env.remove_half_open(key);
    true
}

/// The reverse entry of the translated flow that has this tuple. A half-open flow is moved to the established ones: its
/// place is where the direct connection's entry goes. It has no device there until its client has seen an answer: till then it
/// is kept for as long as a half-open one.
#[inline(never)]
fn translated<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, scratch: &mut Scratch<A>) -> Option<E::Flow> {
    if let Some(flow) = env.flow(key) {
        return if flow.kind == flow_kind::REVERSE { Some(flow) } else { None };
    }
    let reverse = env.half_open(key)?;
    if reverse.kind != flow_kind::REVERSE {
        return None;
    }
    let forward_key = forward_key(&reverse, key.proto);
    let forward = env.half_open(&forward_key)?;
    if forward.kind != flow_kind::FORWARD || !is_of(&forward, key) || !may_move(env) {
        return None;
    }
    scratch.forward = *forward;
    scratch.forward.ifindex = 0;
    if !env.insert_flow(key, &reverse) {
        return None;
    }
    if !env.insert_flow(&forward_key, &scratch.forward) {
        env.remove_flow(key);
        return None;
    }
    env.remove_half_open(&forward_key);
    env.remove_half_open(key);
    env.flow(key)
}

/// Drafts the pair of entries of a direct connection that gets another port.
#[inline(always)]
fn draft<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, ifindex: u32, scratch: &mut Scratch<A>) {
    let key = &headers.key;
    scratch.forward = FlowValue {
        src: key.src,
        dst: key.dst,
        sport: key.sport,
        dport: key.dport,
        kind: flow_kind::DIRECT,
        action: flow_action::STACK,
        seen: env.ticks(),
        ifindex,
        addr_delta: checksum::UNCHANGED,
        next: if headers.opens() { headers.end } else { 0 },
        ..FlowValue::default()
    };
    scratch.reverse = scratch.forward;
    scratch.reverse.src = key.dst;
    scratch.reverse.dst = key.src;
    scratch.reverse.sport = key.dport;
    scratch.reverse.dport = key.sport;
    scratch.reverse.kind = flow_kind::REVERSE;
    scratch.reverse.next = 0;
    // Before anything is written: mid-stream packets are looked at from now on.
    env.note_remap();
}
