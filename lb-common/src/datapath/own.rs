//! Connections that the node itself, or somebody behind its source NAT, has opened from a port that Sluice may take for
//! its own: a frontend's on one of the node's addresses, or one that source NAT allocates. What was opened keeps its
//! answers.
//!
//! Sluice learns of them by what leaves an uplink, behind netfilter, so that sources are what the far end sees. An entry
//! [`flow_kind::OWN`] in the table of half-open flows stands for one, under the key of its answers.

use super::arrival::Arrival;
use super::env::Env;
use super::flow::refresh;
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::scope::is_snat_port;
use super::scratch::Scratch;
use crate::abi::{
    Address, Counter, FlowValue, FrontendKey, FrontendValue, config_flag, device_flag, flow_kind, flow_state,
    frontend_flag, frontend_kind, frontend_scope,
};

/// Whether a packet's source may be a frontend on an address of the node, in a packet that may begin something; or an
/// SNAT port towards what may be a backend.
#[inline(always)]
fn may_collide<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    let key = &headers.key;
    if is_snat_port(env.config(), key.sport) && env.may_be_backend(key.dst, key.dport) {
        return true;
    }
    // Of TCP the first packet is enough: later ones without a flow are left to the node's stack, see `is_left_to_stack`.
    headers.may_open() && env.may_be_frontend_port(key.src, key.sport)
}

/// First look at a packet that leaves by an uplink. What Sluice has sent itself does not come here.
#[inline(always)]
pub(super) fn look<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    if !arrival.hook.is_uplink() || !may_collide(env, headers) {
        return Fast::Pass;
    }
    match env.half_open(&headers.key.flipped()) {
        Some(flow) if flow.kind == flow_kind::OWN => {
            refresh(env, headers, flow);
            Fast::Pass
        }
        Some(_) => Fast::Pass,
        // A reply of Sluice's, on its way through a second uplink.
        None if env.flow(&headers.key.flipped()).is_some() => Fast::Pass,
        None => Fast::Slow,
    }
}

/// Notes a connection of the node's own.
#[inline(never)]
pub(super) fn note<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival, scratch: &mut Scratch<A>) {
    if !arrival.hook.is_uplink() || !may_collide(env, headers) || headers.aborts() {
        return;
    }
    // The stack drops an IPv4 packet that comes in with one of the node's own addresses as its source. Not so for IPv6:
    // what comes from outside may be forged.
    if A::IS_V6 && arrival.from != 0 && env.device_flags(arrival.from) & device_flag::UPLINK != 0 {
        return;
    }
    let key = &headers.key;
    if !is_snat_port(env.config(), key.sport) && !is_frontend(env, headers) {
        return;
    }
    scratch.reverse_key = key.flipped();
    if env.flow(&scratch.reverse_key).is_some() || env.half_open(&scratch.reverse_key).is_some() {
        return;
    }
    scratch.forward =
        FlowValue { kind: flow_kind::OWN, seen: env.ticks(), ifindex: arrival.ifindex, ..FlowValue::default() };
    if env.insert_half_open(&scratch.reverse_key, &scratch.forward) {
        env.count(Counter::OwnConnection);
    }
}

/// Whether a packet's source is a frontend.
#[inline(always)]
fn is_frontend<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    let key = &headers.key;
    let scope = frontend_scope::ALL;
    env.frontend(&FrontendKey { addr: key.src, port: key.sport, proto: key.proto, scope }).is_some()
}

/// An answer to a connection of the node's own. An answer to TCP keeps the entry; one to a datagram does not, so that a
/// client that goes on sending without being answered is not kept from the Service.
#[inline(always)]
pub(super) fn answered<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: E::Flow) {
    if headers.has_handshake() {
        let flow = refresh(env, headers, flow);
        env.note(flow, flow_state::REPLIED);
    } else {
        env.note(flow, flow_state::REPLIED);
    }
}

/// Whether a SYN goes to a live connection of the node's own. The node's stack answers it (RFC 5961 section 4).
#[inline(never)]
pub(super) fn is_live<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    env.half_open(&headers.key).is_some_and(|flow| {
        let ended = flow.state & flow_state::CLOSED != 0;
        flow.kind == flow_kind::OWN && flow.state & flow_state::REPLIED != 0 && !ended
    })
}

/// Whether a frontend has an address of the node's own.
#[inline(always)]
pub(super) const fn is_node_address(frontend: &FrontendValue) -> bool {
    frontend.kind == frontend_kind::NODE_PORT || frontend.flags & frontend_flag::NODE_ADDRESS != 0
}

/// TCP in mid-stream that belongs to no flow: to an address of the node it may be a connection of the node's own. Its
/// stack knows, and answers with a RST itself where it is not.
#[inline(always)]
pub(super) fn is_left_to_stack<A: Address, E: Env<A>>(env: &E, frontend: &FrontendValue) -> Option<Decision> {
    if env.config().flags & config_flag::TAKEOVER != 0 {
        return Some(Decision::LEAVE_TO_STACK);
    }
    if is_node_address(frontend) { Some(Decision::NODE_ADDRESS) } else { None }
}

/// Whether a Pod's packet may have a source that is the node's. IPv4's stack drops such packets by itself.
#[inline(always)]
pub(super) fn may_be_forged<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> bool {
    A::IS_V6 && !arrival.hook.is_uplink() && may_collide(env, headers)
}

/// Whether a Pod's packet would be taken for a connection of the node's own when it leaves.
#[inline(never)]
pub(super) fn is_forged<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> bool {
    if !may_be_forged(env, headers, arrival) {
        return false;
    }
    let key = &headers.key;
    let masquerades = is_snat_port(env.config(), key.sport)
        && (key.src == env.config().node || env.route(key.dst).is_some_and(|route| route.source == key.src));
    masquerades || is_frontend(env, headers)
}
