//! A frontend's packet of a flow that exists, where it is not an ordinary one: SYNs, what comes by another device, what
//! establishes a flow, flows that have lost half of themselves or their backend.

use super::arrival::Arrival;
use super::closing::{self, is_over};
use super::create::mend;
use super::env::Env;
use super::flow::{establish, has_seen_answer, leads_to, refresh, reverse_key};
use super::headers::Headers;
use super::retry;
use super::scratch::Scratch;
use crate::abi::{Address, Counter, FlowValue, Tally, flow_kind, flow_state};

/// A frontend's packet that may belong to an established flow after all: a SYN, a datagram whose backend went away, or a
/// packet that comes by another device than those before.
#[inline(never)]
pub(super) fn established<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> bool {
    let key = &headers.key;
    let Some(flow) = env.flow(key) else { return false };
    if flow.kind != flow_kind::FORWARD {
        return false;
    }
    scratch.reverse_key = reverse_key(&flow, key.proto);
    let reverse = env.flow(&scratch.reverse_key).filter(|reverse| leads_to(reverse, key));
    let other = reverse.map_or(0, |reverse| reverse.state);
    if begins_anew(env, &flow, headers, is_over(flow.state, other)) {
        if reverse.is_some() {
            env.remove_flow(&scratch.reverse_key);
        }
        env.remove_flow(key);
        return false;
    }
    // A SYN's number counts once the backend has taken it.
    let before = flow.state;
    let flow = if headers.opens() { env.touch(flow) } else { refresh(env, headers, flow) };
    closing::note_request(env, &flow, before, other);
    if let Some(reverse) = reverse
        && headers.opens()
    {
        env.reopen(reverse, headers.end);
    }
    // Moved here out of the way of a direct connection, and not answered for yet.
    let waits = flow.ifindex == 0 && !reverse.is_some_and(|reverse| has_seen_answer(headers, &reverse));
    let flow = if waits { flow } else { follow(env, flow, reverse, arrival) };
    scratch.rewrite_as(&flow);
    true
}

/// What the table of half-open flows says of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfOpen {
    /// It belongs to one.
    Known,
    /// It did, and its flow begins again with another backend: `scratch.choice`.
    Retried,
    /// It belongs to none.
    Unknown,
}

/// A frontend's packet that may belong to a half-open flow.
#[inline(never)]
pub(super) fn half_open<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> HalfOpen {
    let key = &headers.key;
    let Some(flow) = env.half_open(key) else { return HalfOpen::Unknown };
    if flow.kind != flow_kind::FORWARD {
        return HalfOpen::Unknown;
    }
    scratch.reverse_key = reverse_key(&flow, key.proto);
    let reverse = env.half_open(&scratch.reverse_key).filter(|reverse| leads_to(reverse, key));
    let other = reverse.map_or(0, |reverse| reverse.state);
    let mut next = HalfOpen::Known;
    // Nothing was established: what one side has closed the other one does not know of.
    if begins_anew(env, &flow, headers, (flow.state | other) & flow_state::CLOSED != 0) {
        next = HalfOpen::Unknown;
    } else if retry::is_due(env, headers, &flow) {
        scratch.forward = *flow;
        if retry::choose(env, headers, arrival, scratch) {
            env.count(Counter::SynRetried);
            next = HalfOpen::Retried;
        }
    }
    if next == HalfOpen::Known && reverse.is_none() {
        // Evicted, and perhaps another flow's now.
        scratch.forward = *flow;
        if !mend(env, headers, arrival, scratch) {
            next = HalfOpen::Unknown;
        }
    }
    if next != HalfOpen::Known {
        closing::left(env, &flow, other);
        if reverse.is_some() {
            env.remove_half_open(&scratch.reverse_key);
        }
        env.remove_half_open(key);
        return next;
    }
    let flow = if headers.opens() { env.touch(env.renumber(flow, headers.end)) } else { refresh(env, headers, flow) };
    let flow = follow(env, flow, reverse, arrival);
    scratch.forward = *flow;
    if flow.state & flow_state::REPLIED != 0 && !headers.opens() {
        establish(env, headers, scratch);
    }
    scratch.forward.tally = Tally::default();
    HalfOpen::Known
}

/// Where the client's packets come by another device than before, its replies go there. Returns the forward entry as it is
/// then.
#[inline(always)]
fn follow<A: Address, E: Env<A>>(env: &E, forward: E::Flow, reverse: Option<E::Flow>, arrival: Arrival) -> E::Flow {
    if forward.ifindex == arrival.ifindex {
        return forward;
    }
    if let Some(reverse) = reverse {
        let snat = reverse.kind == flow_kind::REVERSE_SNAT;
        env.follow(reverse, if snat && !arrival.hook.is_uplink() { 0 } else { arrival.ifindex });
    }
    env.follow(forward, arrival.ifindex)
}

/// Whether a flow that this packet matches has `ended`, or has lost its backend, so that the packet begins another.
#[inline(always)]
fn begins_anew<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, headers: &Headers<A>, ended: bool) -> bool {
    let gone = env.generation(flow.backend) != flow.generation;
    if !headers.has_handshake() {
        if gone {
            env.count(Counter::FlowMoved);
        }
        return gone;
    }
    headers.opens() && (gone || ended)
}
