//! Packets on their way in from a client: VIP to Pod. Also replies to an SNAT port.

use super::arrival::Arrival;
use super::closing;
use super::create::{draft, write};
use super::env::Env;
use super::existing::{HalfOpen, established, half_open};
use super::flow::{Reply, refresh, reply};
use super::gate::{self, claim};
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::own;
use super::remap::{Direct, remapped};
use super::schedule::{member_flag, select};
use super::scope::{is_foreign, is_internal, is_snat_port, is_unallocated, known_vip};
use super::scratch::Scratch;
use crate::abi::{
    Address, AffinityKey, Counter, FlowKey, FrontendKey, FrontendValue, SourceRangeKey, flow_kind, flow_state,
    frontend_flag, frontend_scope,
};

/// First look: packets of flows, and those that do not belong to Sluice, end here.
#[inline(always)]
pub(super) fn look<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    let claims = gate::ingress(env, headers, arrival);
    if own::may_be_forged(env, headers, arrival) {
        return Fast::Slow;
    }
    if claims == 0 {
        return Fast::Pass;
    }
    if claims & claim::REPLY != 0
        && let Some(flow) = env.flow(&headers.key.flipped())
        && flow.kind == flow_kind::REVERSE
        && flow.out != 0
        && flow.from == arrival.from
        && !headers.is_rare_reply()
        && !closing::may_end(headers, &flow)
    {
        return Fast::Hit(refresh(env, headers, flow));
    }
    // A SYN may reuse the tuple of a flow that is over: the slow path looks closer.
    if claims == claim::REPLY {
        return Fast::Pass;
    }
    if headers.opens() {
        return Fast::Slow;
    }
    match env.flow(&headers.key) {
        Some(flow) => known(env, headers, arrival, flow),
        None if claims & !claim::REPLY == claim::DIRECT && env.is_carrying() => Fast::Slow,
        None if claims & !claim::REPLY == claim::DIRECT => beside_half_open(env, headers),
        None => unanswered(env, headers, arrival),
    }
}

#[inline(always)]
fn known<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival, flow: E::Flow) -> Fast<E::Flow> {
    let ordinary = match flow.kind {
        // A datagram whose backend is no longer an endpoint moves at once.
        flow_kind::FORWARD => {
            flow.ifindex == arrival.ifindex
                && (headers.has_handshake() || env.generation(flow.backend) == flow.generation)
        }
        flow_kind::REVERSE_SNAT => flow.from == arrival.from && !headers.is_rare_reply(),
        _ => false,
    };
    if !ordinary || closing::may_end(headers, &flow) {
        return Fast::Slow;
    }
    Fast::Hit(refresh(env, headers, flow))
}

/// A packet straight to a backend: whether it may collide with a half-open flow, or is to leave from another port.
#[inline(always)]
fn beside_half_open<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    match env.half_open(&headers.key) {
        Some(flow) if matches!(flow.kind, flow_kind::REVERSE | flow_kind::DIRECT) => Fast::Slow,
        _ => Fast::Pass,
    }
}

/// No established flow: a datagram of one without a reply so far (there may never be one, as for statsd and syslog, so
/// it is no rare case), or an answer to a connection of the node's own. Where the entry is to be marked as used, the slow
/// path sees whether the other is still there.
#[inline(always)]
fn unanswered<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    match env.half_open(&headers.key) {
        Some(flow) if flow.kind == flow_kind::OWN => {
            // It left by an uplink.
            if arrival.hook.is_uplink() {
                own::answered(env, headers, flow);
            }
            Fast::Pass
        }
        _ if headers.has_handshake() => Fast::Slow,
        Some(flow)
            if flow.kind == flow_kind::FORWARD
                && flow.state & flow_state::REPLIED == 0
                && flow.ifindex == arrival.ifindex
                && !env.is_stale(flow)
                && env.generation(flow.backend) == flow.generation =>
        {
            Fast::Hit(flow)
        }
        _ => Fast::Slow,
    }
}

/// Everything that is not an ordinary packet of a flow.
#[inline(always)]
pub(super) fn decide<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    // One after the other rather than one within the other, for the sake of the stack.
    let decision = match for_frontend(env, headers, arrival, scratch).settled() {
        Some(decision) => decision,
        None => beside_frontends(env, headers, arrival, scratch),
    };
    if decision != Decision::DRAFTED {
        return decision;
    }
    // One call for all that begins: the verifier follows each by itself.
    begin(env, headers, scratch)
}

/// A packet for a frontend. [`Decision::OPEN`]: there is none.
#[inline(never)]
fn for_frontend<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    if own::is_forged(env, headers, arrival) {
        return Decision::drop(Counter::DropForgedSource);
    }
    let key = &headers.key;
    if !frontend_of(env, key, scratch) {
        return Decision::OPEN;
    }
    if headers.opens() && own::is_node_address(&scratch.choice.frontend) && own::is_live(env, headers) {
        return Decision::NODE_ADDRESS;
    }
    if !in_source_ranges(env, key.src, &scratch.choice.frontend) {
        return Decision::drop(Counter::DropSourceRange);
    }
    if is_foreign(env, key.src, arrival.from) {
        return Decision::drop(Counter::DropForeignSource);
    }
    if established(env, headers, arrival, scratch) {
        return Decision::TRANSLATE;
    }
    let half_open = half_open(env, headers, arrival, scratch);
    if half_open == HalfOpen::Known {
        return Decision::TRANSLATE;
    }
    if half_open == HalfOpen::Unknown {
        if headers.has_handshake() && !headers.opens() {
            return mid_stream(env, headers, &scratch.choice.frontend);
        }
        let chosen = choose(env, headers, arrival, scratch);
        if chosen != Decision::TRANSLATE {
            return chosen;
        }
    }
    match draft(env, headers, arrival, scratch) {
        Ok(()) => Decision::DRAFTED,
        Err(counter) => Decision::drop(counter),
    }
}

/// Looks for the frontend that a packet is for, into `scratch.choice`. A call, for the sake of the stack.
#[inline(never)]
fn frontend_of<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>, scratch: &mut Scratch<A>) -> bool {
    let key = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: frontend_scope::ALL };
    match env.frontend(&key) {
        Some(frontend) => {
            scratch.choice.frontend = frontend;
            true
        }
        None => false,
    }
}

/// Whether a client is among those that the frontend serves.
#[inline(never)]
fn in_source_ranges<A: Address, E: Env<A>>(env: &E, client: A, frontend: &FrontendValue) -> bool {
    frontend.flags & frontend_flag::SOURCE_RANGES == 0
        || env.in_source_range(&SourceRangeKey { service: frontend.service, addr: client })
}

/// TCP for a frontend that begins nothing and belongs to no flow: never passed on untranslated without a word.
#[inline(always)]
fn mid_stream<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, frontend: &FrontendValue) -> Decision {
    if let Some(decision) = own::is_left_to_stack(env, frontend) {
        return decision;
    }
    if headers.aborts() {
        return Decision::drop(Counter::DropNoFlow);
    }
    Decision::refuse(Counter::RejectNoFlow)
}

/// Chooses a backend for a new flow into `scratch.choice`.
#[inline(never)]
fn choose<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    let internal = is_internal(env, headers.key.src, arrival, scratch.choice.frontend.kind);
    let flags = scratch.choice.frontend.flags;
    let (set, drops, local) = if internal {
        (scratch.choice.frontend.internal, frontend_flag::INTERNAL_EMPTY_DROPS, frontend_flag::INTERNAL_LOCAL)
    } else {
        (scratch.choice.frontend.external, frontend_flag::EXTERNAL_EMPTY_DROPS, frontend_flag::EXTERNAL_LOCAL)
    };
    if set.count == 0 {
        if flags & drops != 0 {
            return Decision::drop(Counter::DropNoLocalEndpoints);
        }
        return Decision::refuse(Counter::RejectNoEndpoints);
    }
    scratch.choice.source = u32::from(headers.key.sport.0);
    let client = AffinityKey { client: headers.key.src, service: scratch.choice.frontend.service, netns: [0; 2] };
    let chosen = select(env, &mut scratch.choice, &client, set, member_flag(flags & local != 0), true);
    match chosen {
        Ok(()) => Decision::TRANSLATE,
        Err(counter) => Decision::drop(counter),
    }
}

/// Begins what was drafted: a flow, or a direct connection with another port.
#[inline(never)]
fn begin<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Decision {
    if let Err(counter) = write(env, &headers.key, scratch) {
        return Decision::drop(counter);
    }
    if scratch.forward.kind == flow_kind::DIRECT {
        env.count(Counter::DirectRemapped);
        return Decision::TRANSLATE;
    }
    env.connected(scratch.forward.backend, scratch.forward.generation, true);
    if scratch.forward.state & flow_state::COUNTED != 0 {
        env.opened(scratch.forward.backend, scratch.forward.generation);
    }
    env.count(Counter::NewFlow);
    Decision::BEGIN
}

/// No frontend has this address, port and protocol. A direct connection may collide with a flow.
#[inline(never)]
fn beside_frontends<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    let decision = not_a_frontend(env, headers, arrival, scratch);
    if decision != Decision::PASS || !may_collide(env, headers) {
        return decision;
    }
    match remapped(env, headers, arrival, scratch) {
        Direct::Other => Decision::PASS,
        Direct::Known => Decision::TRANSLATE,
        Direct::Begins => Decision::DRAFTED,
    }
}

/// [`gate::may_collide`] as a call, for the sake of the stack.
#[inline(never)]
fn may_collide<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    gate::may_collide(env, headers)
}

/// A reply to an SNAT port, or a packet for an address or a range that is a Service's.
#[inline(always)]
fn not_a_frontend<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    let key = &headers.key;
    let config = env.config();
    // A SYN begins a connection, it is no reply: here as for an established flow it does not belong to Sluice.
    if is_snat_port(config, key.dport) && !headers.opens() {
        scratch.reverse_key = *key;
        match reply::<A, E, { flow_kind::REVERSE_SNAT }>(env, headers, arrival, scratch) {
            Reply::Taken => return Decision::TRANSLATE,
            Reply::Forged => return Decision::drop(Counter::DropForgedReply),
            Reply::Other => {}
        }
    }
    if known_vip(env, key.dst) {
        if headers.aborts() {
            return Decision::drop(Counter::DropNoFlow);
        }
        return Decision::refuse(Counter::RejectUnknownPort);
    }
    if is_unallocated(env, key.dst) {
        return Decision::drop(Counter::DropUnallocatedVip);
    }
    Decision::PASS
}
