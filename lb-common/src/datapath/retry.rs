//! A backend that says nothing: a SYN that is sent again without any reply so far is offered another one.
//!
//! A dead node then costs a client one retransmission (a second, RFC 6298 section 2.1) rather than its whole patience. What
//! the first backend may still answer belongs to no flow any more, and is reset by whom it reaches.

use super::env::Env;
use super::headers::Headers;
use super::schedule;
use super::scope::is_internal;
use super::scratch::Scratch;
use super::silence;
use crate::abi::{Address, FlowValue, config_flag, flow_state};
use crate::datapath::Arrival;

/// Ticks that a SYN has to be behind the one before it: a copy that the network has made comes at once.
const APART: u32 = 16;

/// Whether this packet is a half-open flow's SYN once more, and nobody has answered it.
#[inline(always)]
pub(super) fn is_due<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, forward: &FlowValue<A>) -> bool {
    headers.opens()
        && forward.next == headers.end
        && forward.state & flow_state::REPLIED == 0
        && env.ticks().wrapping_sub(forward.seen) > APART
}

/// The SYN of the flow in `scratch.forward` has come again: says so of its backend, and chooses another one than that into
/// `scratch.choice`, if the client's set has one. Where there is no other, nobody is to be passed over.
#[inline(never)]
pub(super) fn choose<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> bool {
    let frontend = &scratch.choice.frontend;
    let set =
        if is_internal(env, headers.key.src, arrival, frontend.kind) { frontend.internal } else { frontend.external };
    if set.count < 2 {
        return false;
    }
    scratch.choice.id = scratch.forward.backend;
    silence::unanswered(env, scratch.choice.id, scratch.forward.generation, scratch.forward.born);
    env.config().flags & config_flag::NO_RETRY == 0 && schedule::another(env, &mut scratch.choice, set)
}
