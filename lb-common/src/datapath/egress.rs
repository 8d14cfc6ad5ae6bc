//! Packets on their way out to a client: Pod to VIP.

use super::arrival::Arrival;
use super::closing;
use super::env::Env;
use super::flow::{Reply, refresh, reply};
use super::gate;
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::own;
use super::scope::{is_unallocated, known_vip};
use super::scratch::Scratch;
use crate::abi::{Address, Counter, flow_kind, flow_state};

/// First look: packets of flows, and those that do not belong to Sluice, end here.
#[inline(always)]
pub(super) fn look<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    if gate::egress(env, headers) {
        let key = headers.key.flipped();
        if let Some(flow) = env.flow(&key)
            && flow.kind == flow_kind::REVERSE
        {
            // One that comes another way than those before, begins the numbers anew, resets or ends what is counted is looked at
            // closely.
            let ordinary = flow.from == arrival.from && !headers.is_rare_reply() && !closing::may_end(headers, &flow);
            return if ordinary { Fast::Hit(refresh(env, headers, flow)) } else { Fast::Slow };
        }
        if let Some(flow) = env.half_open(&key)
            && flow.kind == flow_kind::REVERSE
        {
            let known = !headers.has_handshake() && flow.state & flow_state::REPLIED != 0;
            return if known && flow.from == arrival.from { Fast::Hit(env.touch(flow)) } else { Fast::Slow };
        }
        if env.is_carrying() {
            return Fast::Slow;
        }
    }
    if gate::is_untranslated(env, headers, arrival) { Fast::Slow } else { own::look(env, headers, arrival) }
}

/// A reply that is not an ordinary one of an established flow.
#[inline(never)]
pub(super) fn decide<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    scratch.reverse_key = headers.key.flipped();
    match reply::<A, E, { flow_kind::REVERSE }>(env, headers, arrival, scratch) {
        Reply::Taken => Decision::TRANSLATE,
        Reply::Forged => Decision::drop(Counter::DropForgedReply),
        Reply::Other => {
            let decision = drop_untranslated_local(env, headers, arrival);
            if decision == Decision::PASS {
                own::note(env, headers, arrival, scratch);
            }
            decision
        }
    }
}

/// The node's own packet for a `ClusterIP`, about to leave the node: no socket hook has translated it, and nobody else
/// would. Only first packets are looked at.
#[inline(never)]
fn drop_untranslated_local<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Decision {
    if !gate::is_untranslated(env, headers, arrival) {
        return Decision::PASS;
    }
    if known_vip(env, headers.key.dst) {
        return Decision::drop(Counter::DropUntranslated);
    }
    if is_unallocated(env, headers.key.dst) {
        return Decision::drop(Counter::DropUnallocatedVip);
    }
    Decision::PASS
}
