//! Packets on their way out to a client: Pod to VIP.

use super::arrival::Arrival;
use super::env::Env;
use super::flow::{flip, promote, refresh};
use super::gate;
use super::headers::Headers;
use super::outcome::{Decision, Fast};
use super::own;
use super::scope::{in_service_range, known_vip};
use super::scratch::Scratch;
use super::transport;
use crate::abi::{Address, Counter, flow_kind};

/// First look: packets of flows, and those that do not belong to Sluice, end here.
#[inline(always)]
pub(super) fn look<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    if gate::egress(env, headers) {
        let key = flip(&headers.key);
        if let Some(flow) = env.flow(&key)
            && flow.kind == flow_kind::REVERSE
        {
            return Fast::Hit(refresh(env, headers, flow));
        }
        if transport::may_be_first_reply(headers.key.proto, headers.flags)
            && env.half_open(&key).is_some_and(|flow| flow.kind == flow_kind::REVERSE)
        {
            return Fast::Slow;
        }
    }
    if gate::is_untranslated(env, headers, arrival) { Fast::Slow } else { own::look(env, headers, arrival) }
}

/// A possible first reply: looks in the table of half-open flows and promotes the flow.
#[inline(never)]
pub(super) fn decide<A: Address, E: Env<A>>(
    env: &E,
    headers: &Headers<A>,
    arrival: Arrival,
    scratch: &mut Scratch<A>,
) -> Decision {
    scratch.reverse_key = flip(&headers.key);
    if transport::may_be_first_reply(headers.key.proto, headers.flags)
        && let Some(flow) = env.half_open(&scratch.reverse_key)
        && flow.kind == flow_kind::REVERSE
    {
        scratch.reverse = *flow;
        promote(env, headers, scratch);
        return Decision::TRANSLATE;
    }
    let decision = drop_untranslated_local(env, headers, arrival);
    if decision == Decision::PASS {
        own::note(env, headers, arrival, scratch);
    }
    decision
}

/// The node's own packet for a `ClusterIP`, about to leave the node: no socket hook has translated it, and nobody else
/// would. Only first packets are looked at.
#[inline(always)]
fn drop_untranslated_local<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Decision {
    if !gate::is_untranslated(env, headers, arrival) {
        return Decision::PASS;
    }
    if known_vip(env, headers.key.dst) {
        return Decision::drop(Counter::DropUntranslated);
    }
    if in_service_range(env.config(), headers.key.dst) {
        return Decision::drop(Counter::DropUnallocatedVip);
    }
    Decision::PASS
}
