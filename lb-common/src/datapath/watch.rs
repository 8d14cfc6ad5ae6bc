//! Events for who listens: new flows, refusals and drops, from the second stage alone. While nobody listens they cost one
//! look into an array.

use super::env::{Env, Watch};
use super::headers::Headers;
use super::outcome::{Decision, Outcome, Reason, Verdict};
use crate::abi::{Address, EventValue, FlowKey, FlowValue};

/// Tells what has become of a packet, if somebody listens who wants to know.
#[inline(always)]
pub(super) fn tell<A: Address, E: Env<A>>(
    env: &E,
    ifindex: u32,
    headers: &Headers<A>,
    flow: E::Flow,
    outcome: Outcome,
) {
    if outcome.is_worth_telling() && env.is_watched() {
        told(env, ifindex, headers, &flow, outcome.reason().number());
    }
}

/// A call, for the sake of the stack.
#[inline(never)]
fn told<A: Address, E: Env<A>>(env: &E, ifindex: u32, headers: &Headers<A>, flow: &FlowValue<A>, reason: u32) {
    let FlowKey { src, dst, sport, dport, proto, .. } = headers.key;
    env.tell(&EventValue {
        now_ns: env.now_ns(),
        key: FlowKey { src, dst, sport, dport, proto, pad: [0; 3] },
        src: flow.src,
        dst: flow.dst,
        sport: flow.sport,
        dport: flow.dport,
        service: flow.service,
        backend: flow.backend,
        generation: flow.generation,
        ifindex,
        reason,
        seq: headers.seq,
        ack: headers.ack,
        length: headers.datagram,
        flags: headers.flags,
        hop_limit: headers.hop_limit,
        pad: 0,
    });
}

impl Outcome {
    /// The same, with the reason that it begins a flow where the decision says so and the packet goes on.
    #[inline(always)]
    pub(super) fn of_new_flow(self, decision: Decision) -> Self {
        let goes_on = self.reason().is(Reason::TRANSLATED) || self.reason().is(Reason::HANDED_OVER);
        if goes_on && decision.reason().is(Reason::NEW_FLOW) { self.because(Reason::NEW_FLOW) } else { self }
    }

    /// The same, read from memory: the kernel's verifier looks at what follows once, not for each way that led here.
    #[inline(always)]
    pub(super) fn settled<A, E: Watch<A>>(self, env: &E) -> Self {
        env.through_memory(self.word()).map_or(Self::pass(Reason::NO_MEMORY), Self::of_word)
    }

    /// Whether who listens wants to know: of a new flow, or of a packet that does not go on.
    #[inline(always)]
    const fn is_worth_telling(self) -> bool {
        // A refusal leaves by the way that it came; so may a translated packet, which is not counted.
        let ends = matches!(self.verdict(), Verdict::Drop | Verdict::Bounce) && self.reason().counter_index().is_some();
        ends || self.reason().is(Reason::NEW_FLOW)
    }
}
