//! New flows: the pair of entries.

use super::arrival::Arrival;
use super::closing;
use super::env::Env;
use super::headers::Headers;
use super::scratch::Scratch;
use super::snat::{allocate_port, plan_source_nat};
use crate::abi::{Address, Counter, FlowKey, Tally, device_flag, flow_action, flow_kind, flow_state};
use crate::wire::checksum;

/// Drafts the pair of entries of a new flow to `scratch.choice`, into `scratch.forward` and `scratch.reverse`.
#[inline(never)]
pub(super) fn draft<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Result<(), Counter> {
    let key = &headers.key;
    plan_source_nat(env, key, arrival, scratch)?;
    let forward = &mut scratch.forward;
    forward.dst = scratch.choice.backend.addr;
    forward.sport = key.sport;
    forward.dport = scratch.choice.backend.port;
    forward.kind = flow_kind::FORWARD;
    forward.state = closing::initial_state(scratch.choice.frontend.algorithm);
    if scratch.choice.frontend.affinity_secs != 0 {
        forward.state |= flow_state::AFFINE;
    }
    forward.backend = scratch.choice.id;
    forward.generation = scratch.choice.backend.generation;
    forward.service = scratch.choice.frontend.service;
    forward.seen = env.ticks();
    forward.ifindex = arrival.ifindex;
    forward.tally = Tally::default();
    forward.from = arrival.from;
    forward.next = if headers.opens() { headers.end } else { 0 };
    forward.born = forward.seen;
    forward.addr_delta = checksum::delta(key.src.sum() + key.dst.sum(), forward.src.sum() + forward.dst.sum());
    mirror(env, headers, arrival, scratch);
    Ok(())
}

/// Gives what was drafted its source port, and writes both entries to the table of half-open flows.
#[inline(always)]
pub(super) fn write<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, scratch: &mut Scratch<A>) -> Result<(), Counter> {
    allocate_port(env, scratch, key.proto)?;
    if env.insert_half_open(key, &scratch.forward) { Ok(()) } else { Err(Counter::DropFlowInsert) }
}

/// Makes the reverse entry of the half-open flow in `scratch.forward` anew, whose key is in `scratch.reverse_key`, where the
/// kernel has evicted it alone: what a client sends unanswered keeps only the forward entry in use. False: the flow has to
/// begin anew. TCP's numbers went with the entry, or another flow has its place.
#[inline(never)]
pub(super) fn mend<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> bool {
    let taken = env.half_open(&scratch.reverse_key).is_some() || env.flow(&scratch.reverse_key).is_some();
    if taken || headers.has_handshake() {
        return false;
    }
    mirror(env, headers, arrival, scratch);
    env.insert_half_open(&scratch.reverse_key, &scratch.reverse)
}

/// The reverse entry of `scratch.forward`, into `scratch.reverse`.
#[inline(always)]
fn mirror<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival, scratch: &mut Scratch<A>) {
    let key = &headers.key;
    let Scratch { forward, reverse, .. } = scratch;
    *reverse = *forward;
    reverse.src = key.dst;
    reverse.dst = key.src;
    reverse.sport = key.dport;
    reverse.dport = key.sport;
    reverse.addr_delta = !forward.addr_delta;
    reverse.port_delta = !forward.port_delta;
    reverse.tally = Tally::default();
    reverse.born = 0;
    reverse.from = 0;
    reverse.next = 0;
    if flow_action::keeps_source(forward.action) {
        reverse.kind = flow_kind::REVERSE;
        // The reply goes straight into the client's Pod where the request came straight out of it.
        let straight = forward.action == flow_action::PEER
            && !arrival.hook.is_uplink()
            && env.device_flags(arrival.ifindex) & device_flag::PEER != 0;
        (reverse.action, reverse.out) =
            if straight { (flow_action::PEER, arrival.ifindex) } else { (flow_action::STACK, 0) };
    } else {
        reverse.kind = flow_kind::REVERSE_SNAT;
        if !arrival.hook.is_uplink() {
            // The way to a Pod is the routing table's: its device may be a bridge's port, which has no neighbours.
            reverse.ifindex = 0;
        }
    }
}
