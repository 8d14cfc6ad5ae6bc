//! Open connections of Services whose algorithm counts them: which packets end one. No other flow has the bit
//! [`flow_state::COUNTED`], and pays for this nothing but a look at its packet's flags.

use super::env::Env;
use super::headers::Headers;
use crate::abi::{Address, FlowValue, algorithm, flow_state};

/// The bits of a new flow's state, by its frontend's algorithm.
#[inline(always)]
pub(super) const fn initial_state(of: u8) -> u16 {
    if algorithm::counts_connections(of) { flow_state::COUNTED } else { 0 }
}

/// Whether states of both directions are those of a connection that is over: both sides have closed, or one has reset it.
#[inline(always)]
pub(super) const fn is_over(one: u16, other: u16) -> bool {
    // One branch.
    (one | other) & flow_state::RST | one & other & flow_state::FIN != 0
}

/// Whether a packet may end a connection that is counted: the first stage leaves it to the second, which knows the other
/// direction's state.
#[inline(always)]
pub(super) fn may_end<A: Address>(headers: &Headers<A>, flow: &FlowValue<A>) -> bool {
    headers.closes() && flow.state & (flow_state::COUNTED | flow_state::RST) == flow_state::COUNTED
}

/// Counts that a connection is open no more, if this packet has ended it: `before` is what the entry's state was, `other` is
/// that of the other direction.
#[inline(always)]
pub(super) fn note<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, before: u16, other: u16) {
    if !is_over(before, other) && is_over(flow.state, other) {
        env.ended(flow.backend, flow.generation);
    }
}

/// A client's packet may have ended its connection. A call, for the sake of the stack.
#[inline(never)]
pub(super) fn note_request<A: Address, E: Env<A>>(env: &E, forward: &FlowValue<A>, before: u16, other: u16) {
    if forward.state & flow_state::COUNTED != 0 {
        note(env, forward, before, other);
    }
}

/// Counts that a flow is open no more, which goes before it is over.
#[inline(never)]
pub(super) fn left<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, other: u16) {
    if flow.state & flow_state::COUNTED != 0 && !is_over(flow.state, other) {
        env.ended(flow.backend, flow.generation);
    }
}
