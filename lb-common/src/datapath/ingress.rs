//! Packets on their way in from a client: VIP to Pod. Also replies to an SNAT port.

use super::arrival::Arrival;
use super::create::create;
use super::env::Env;
use super::flow::{Reply, establish, refresh, reply, reverse_key};
use super::gate::{self, claim};
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::own;
use super::remap::remapped;
use super::retry;
use super::schedule::{member_flag, select};
use super::scope::{is_foreign, is_internal, is_snat_port, is_unallocated, known_vip};
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
        && let Some(flow) = env.flow(&headers.key.flipped())
        && flow.kind == flow_kind::REVERSE
        && flow.out != 0
        && flow.from == arrival.from
        && !headers.answers_opening()
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
        // A TCP packet that opens nothing belongs to a direct connection that an established flow's entry stands for.
        None if claims & !claim::REPLY == claim::DIRECT && headers.has_handshake() => Fast::Pass,
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
        flow_kind::REVERSE_SNAT => flow.from == arrival.from && !headers.answers_opening(),
        _ => false,
    };
    if !ordinary {
        return Fast::Slow;
    }
    Fast::Hit(refresh(env, headers, flow))
}

/// A datagram straight to a backend: whether it may collide with a half-open flow.
#[inline(always)]
fn beside_half_open<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> Fast<E::Flow> {
    match env.half_open(&headers.key) {
        Some(flow) if flow.kind == flow_kind::REVERSE => Fast::Slow,
        _ => Fast::Pass,
    }
}

/// No established flow: a datagram of one without a reply so far (there may never be one, as for statsd and syslog, so
/// it is no rare case), or an answer to a connection of the node's own.
#[inline(always)]
fn unanswered<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    match env.half_open(&headers.key) {
        Some(flow) if flow.kind == flow_kind::OWN => {
            own::answered(env, headers, flow);
            Fast::Pass
        }
        _ if headers.has_handshake() => Fast::Slow,
        Some(flow)
            if flow.kind == flow_kind::FORWARD
                && flow.state & flow_state::REPLIED == 0
                && flow.ifindex == arrival.ifindex
                && env.generation(flow.backend) == flow.generation =>
        {
            Fast::Hit(env.touch(flow))
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
    match for_frontend(env, headers, arrival, scratch).settled() {
        Some(decision) => decision,
        None => beside_frontends(env, headers, arrival, scratch),
    }
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
    // One call for both: the verifier follows each on its own.
    begin(env, headers, arrival, scratch)
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

/// A frontend's packet that may belong to an established flow after all: a SYN, a datagram whose backend went away, or a
/// packet that comes by another device than those before.
#[inline(never)]
fn established<A: Address, E: Env<A>>(
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
    let reverse = env.flow(&scratch.reverse_key);
    if begins_anew(env, &flow, headers, reverse.map_or(0, |reverse| reverse.state)) {
        env.remove_flow(&scratch.reverse_key);
        env.remove_flow(key);
        return false;
    }
    // A SYN's number counts once the backend has taken it.
    let flow = if headers.opens() { env.touch(flow) } else { refresh(env, headers, flow) };
    let flow = follow(env, flow, reverse, arrival);
    scratch.rewrite_as(&flow);
    true
}

/// What the table of half-open flows says of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfOpen {
    /// It belongs to one.
    Known,
    /// It did, and its flow begins again with another backend: `scratch.choice`.
    Retried,
    /// It belongs to none.
    Unknown,
}

/// A frontend's packet that may belong to a half-open flow.
#[inline(never)]
fn half_open<A: Address, E: Env<A>>(
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
    let mut next = HalfOpen::Known;
    if begins_anew(env, &flow, headers, 0) {
        next = HalfOpen::Unknown;
    } else if retry::is_due(env, headers, &flow) {
        scratch.forward = *flow;
        if retry::choose(env, headers, arrival, scratch) {
            env.count(Counter::SynRetried);
            next = HalfOpen::Retried;
        }
    }
    if next != HalfOpen::Known {
        env.remove_half_open(&scratch.reverse_key);
        env.remove_half_open(key);
        return next;
    }
    let flow = if headers.opens() { env.renumber(flow, headers.end) } else { flow };
    let flow = refresh(env, headers, flow);
    let flow = follow(env, flow, env.half_open(&scratch.reverse_key), arrival);
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

/// Begins a flow to the backend that was chosen.
#[inline(never)]
fn begin<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival, scratch: &mut Scratch<A>) -> Decision {
    match create(env, headers, arrival, scratch) {
        Ok(()) => {
            env.connected(scratch.forward.backend, scratch.forward.generation, true);
            env.count(Counter::NewFlow);
            Decision::BEGIN
        }
        Err(counter) => Decision::drop(counter),
    }
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
    let may_collide = decision == Decision::PASS && gate::may_collide(env, headers);
    if may_collide { remapped(env, headers, scratch) } else { decision }
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
