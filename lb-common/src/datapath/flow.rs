//! A flow's two entries: their keys, their states, and the step from half-open to established.

use super::env::Env;
use super::headers::Headers;
use super::scratch::Scratch;
use super::transport;
use crate::abi::{Address, Counter, FlowKey, FlowValue, flow_action, flow_kind, flow_state};

/// The key turned around.
#[inline(always)]
pub fn flip<A: Address>(key: &FlowKey<A>) -> FlowKey<A> {
    FlowKey { src: key.dst, dst: key.src, sport: key.dport, dport: key.sport, proto: key.proto, pad: [0; 3] }
}

/// The forward entry's key: the reverse entry writes VIP to client, and this is it turned around.
#[inline(always)]
pub fn forward_key<A: Address>(reverse: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    let FlowValue { src, dst, sport, dport, .. } = *reverse;
    FlowKey { src: dst, dst: src, sport: dport, dport: sport, proto: protocol, pad: [0; 3] }
}

/// The key of a forward or direct entry's reverse flow.
#[inline(always)]
pub fn reverse_key<A: Address>(forward: &FlowValue<A>, protocol: u8) -> FlowKey<A> {
    let FlowValue { src, dst, sport, dport, .. } = *forward;
    let request = FlowKey { src, dst, sport, dport, proto: protocol, pad: [0; 3] };
    if flow_action::keeps_source(forward.action) { request } else { flip(&request) }
}

/// Notes what an entry's packet says of its flow. Returns the entry as it is then.
#[inline(always)]
pub(super) fn refresh<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, flow: E::Flow) -> E::Flow {
    let state = transport::state_bits(headers.key.proto, headers.flags);
    let flow = if state == 0 { flow } else { env.note(flow, state) };
    env.touch(flow)
}

/// Which sides have to have sent their FIN for a connection to count as finished. A RST from either finishes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Either: enough for an SNAT port, of which there are few.
    Either,
    /// Both: a flow that is half closed still carries the other side's data, and the answer to the FIN.
    Both,
}

/// Whether an established reverse entry's connection is finished.
#[inline(always)]
pub(super) fn is_finished<A: Address, E: Env<A>>(
    env: &E,
    reverse: &FlowValue<A>,
    protocol: u8,
    closed: Closed,
) -> bool {
    if !transport::has_handshake(protocol) {
        return false;
    }
    env.flow(&forward_key(reverse, protocol)).is_none_or(|forward| {
        let (either, both) = (reverse.state | forward.state, reverse.state & forward.state);
        let fin = if closed == Closed::Both { both } else { either };
        either & flow_state::RST != 0 || fin & flow_state::FIN != 0
    })
}

/// Moves a flow, whose reverse entry and its key are in `scratch.reverse` and `scratch.reverse_key`, to the table of
/// established flows. Leaves the reverse entry in `scratch.forward`: it is what the packet at hand needs.
#[inline(never)]
pub(super) fn promote<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, scratch: &mut Scratch<A>) {
    let key = forward_key(&scratch.reverse, headers.key.proto);
    let bits = transport::state_bits(headers.key.proto, headers.flags);
    if bits & flow_state::RST != 0 {
        // Refused: nothing was established, and the client's next SYN is free to go elsewhere. The entries stay: what XDP
        // cannot send TC has to find again.
        for key in [key, scratch.reverse_key] {
            if let Some(flow) = env.half_open(&key) {
                env.note(flow, flow_state::RST);
            }
        }
        scratch.forward = scratch.reverse;
        return;
    }
    scratch.reverse.state |= flow_state::REPLIED | bits;
    scratch.reverse.seen = env.ticks();
    if let Some(forward) = env.half_open(&key)
        && forward.kind == flow_kind::FORWARD
    {
        scratch.forward = *forward;
        scratch.forward.state |= flow_state::REPLIED;
        scratch.forward.seen = scratch.reverse.seen;
        if env.insert_flow(&key, &scratch.forward) {
            env.remove_half_open(&key);
        }
    }
    scratch.forward = scratch.reverse;
    // Refused by a full table, the flow stays half-open and is tried again with the next reply.
    if env.insert_flow(&scratch.reverse_key, &scratch.reverse) {
        env.remove_half_open(&scratch.reverse_key);
        env.count(Counter::FlowEstablished);
    }
}
