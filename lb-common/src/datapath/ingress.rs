//! Packets on their way in from a client: VIP to Pod. Also replies to an SNAT port.

use super::arrival::Arrival;
use super::create::create;
use super::env::Env;
use super::flow::{flip, promote, refresh, reverse_key};
use super::gate::{self, claim};
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::own;
use super::remap::remapped;
use super::schedule::{member_flag, select};
use super::scope::{in_service_range, inside, is_snat_port, known_vip};
use super::scratch::Scratch;
use crate::abi::{
    Address, AffinityKey, Counter, FlowKey, FlowValue, FrontendKey, FrontendValue, SourceRangeKey, Tally, flow_kind,
    flow_state, frontend_flag, frontend_scope,
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
        && let Some(flow) = env.flow(&flip(&headers.key))
        && flow.kind == flow_kind::REVERSE
        && flow.out != 0
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
        Some(flow) => known(env, headers, flow),
        // Only an entry of the established table makes a direct connection one to look at.
        None if claims & !claim::REPLY == claim::DIRECT => Fast::Pass,
        None => unanswered(env, headers),
    }
}

#[inline(always)]
fn known<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: E::Flow) -> Fast<E::Flow> {
    let ordinary = match flow.kind {
        // A datagram whose backend is no longer an endpoint moves at once.
        flow_kind::FORWARD => headers.has_handshake() || env.generation(flow.backend) == flow.generation,
        flow_kind::REVERSE_SNAT => true,
        _ => false,
    };
    if !ordinary {
        return Fast::Slow;
    }
    Fast::Hit(refresh(env, headers, flow))
}

/// No established flow: a datagram of one without a reply so far (there may never be one, as for statsd and syslog, so
/// it is no rare case), or an answer to a connection of the node's own.
#[inline(always)]
fn unanswered<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    match env.half_open(&headers.key) {
        Some(flow) if flow.kind == flow_kind::OWN => {
            own::answered(env, headers, flow);
            Fast::Pass
        }
        _ if headers.has_handshake() => Fast::Slow,
        Some(flow) if flow.kind == flow_kind::FORWARD && env.generation(flow.backend) == flow.generation => {
            Fast::Hit(env.touch(flow))
        }
        _ => Fast::Slow,
    }
}

/// Everything that is not an ordinary packet of a flow.
#[inline(never)]
pub(super) fn decide<A: Address, E: Env<A>>(
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
        let decision = not_a_frontend(env, headers, scratch);
        let may_collide = (headers.may_open() || env.remaps()) && env.may_be_backend(key.dst, key.dport);
        return if decision == Decision::PASS && may_collide { remapped(env, headers, scratch) } else { decision };
    }
    if headers.opens() && own::is_node_address(&scratch.choice.frontend) && own::is_live(env, headers) {
        return Decision::NODE_ADDRESS;
    }
    if !in_source_ranges(env, key.src, &scratch.choice.frontend) {
        return Decision::drop(Counter::DropSourceRange);
    }
    if known_flow(env, headers, scratch) {
        return Decision::TRANSLATE;
    }
    if headers.has_handshake() && !headers.opens() {
        return mid_stream(env, headers, &scratch.choice.frontend);
    }
    new_flow(env, headers, arrival, scratch)
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

/// A frontend's packet that may belong to a flow after all: a SYN, a datagram whose backend went away, or a flow
/// without a reply yet.
#[inline(never)]
fn known_flow<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> bool {
    let key = &headers.key;
    if let Some(flow) = env.flow(key)
        && flow.kind == flow_kind::FORWARD
    {
        scratch.reverse_key = reverse_key(&flow, key.proto);
        let reverse_state = env.flow(&scratch.reverse_key).map_or(0, |reverse| reverse.state);
        if !begins_anew(env, &flow, headers, reverse_state) {
            scratch.forward = *env.touch(flow);
            // It stays in the entry.
            scratch.forward.tally = Tally::default();
            return true;
        }
        env.remove_flow(&scratch.reverse_key);
        env.remove_flow(key);
        return false;
    }
    if let Some(flow) = env.half_open(key)
        && flow.kind == flow_kind::FORWARD
    {
        if !begins_anew(env, &flow, headers, 0) {
            scratch.forward = *refresh(env, headers, flow);
            scratch.forward.tally = Tally::default();
            return true;
        }
        scratch.reverse_key = reverse_key(&flow, key.proto);
        env.remove_half_open(&scratch.reverse_key);
        env.remove_half_open(key);
    }
    false
}

/// Whether a flow that this packet matches has ended, so that the packet begins another.
#[inline(always)]
fn begins_anew<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, headers: &Headers<A>, reverse_state: u16) -> bool {
    let gone = env.generation(flow.backend) != flow.generation;
    if !headers.has_handshake() {
        if gone {
            env.count(Counter::FlowMoved);
        }
        return gone;
    }
    headers.opens() && (gone || (flow.state | reverse_state) & (flow_state::FIN | flow_state::RST) != 0)
}

/// TCP for a frontend that begins nothing and belongs to no flow: never passed on untranslated in silence.
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

#[inline(never)]
fn new_flow<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    let internal = inside(env, headers.key.src, arrival);
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
    let client = AffinityKey { client: headers.key.src, service: scratch.choice.frontend.service, netns: [0; 2] };
    let chosen = select(env, &mut scratch.choice, &client, set, member_flag(flags & local != 0));
    match chosen.and_then(|()| create(env, headers, arrival, scratch)) {
        Ok(()) => {
            env.connected(scratch.forward.backend, scratch.forward.generation);
            env.count(Counter::NewFlow);
            Decision::TRANSLATE
        }
        Err(counter) => Decision::drop(counter),
    }
}

/// No frontend has this address, port and protocol.
#[inline(never)]
fn not_a_frontend<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Decision {
    let key = &headers.key;
    let config = env.config();
    // A SYN begins a connection, it is no reply: here as for an established flow it does not belong to Sluice.
    if is_snat_port(config, key.dport) && !headers.opens() && is_reply(env, headers, scratch) {
        return Decision::TRANSLATE;
    }
    if known_vip(env, key.dst) {
        if headers.aborts() {
            return Decision::drop(Counter::DropNoFlow);
        }
        return Decision::refuse(Counter::RejectUnknownPort);
    }
    if in_service_range(config, key.dst) {
        return Decision::drop(Counter::DropUnallocatedVip);
    }
    Decision::PASS
}

/// Whether a packet is a reply to an SNAT port. The first one moves its flow to the established ones; another comes here
/// when it is to be answered instead of delivered.
#[inline(never)]
fn is_reply<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) -> bool {
    let key = &headers.key;
    if let Some(flow) = env.half_open(key)
        && flow.kind == flow_kind::REVERSE_SNAT
    {
        scratch.reverse = *flow;
        scratch.reverse_key = *key;
        promote(env, headers, scratch);
        return true;
    }
    match env.flow(key) {
        Some(flow) if flow.kind == flow_kind::REVERSE_SNAT => {
            scratch.forward = *refresh(env, headers, flow);
            scratch.forward.tally = Tally::default();
            true
        }
        _ => false,
    }
}
