//! A packet's way through Sluice, from its arrival at a hook to its verdict.
//!
//! ```text
//! plain headers ─ may it belong to Sluice? ─ no: pass
//!        │                │ yes
//!        │          flow tables: hit ──────────────────────────────┐
//!        │                │ miss                                   │
//!   any headers ─ fragments, ICMP errors                           │
//!                         │                                        │
//!                  frontend, policy, choice, new flow ─────────────┤
//!                         │                                        │
//!                  refuse, drop, pass                       rewrite, deliver
//! ```
//!
//! Kernel programs run it in two stages ([`Stage`]): the first is small, and sees every packet.

use super::arrival::Arrival;
use super::deliver::translate;
use super::env::{Env, Stage};
use super::frame::Frame;
use super::headers::{Headers, Parsed};
use super::outcome::{Fast, Outcome, Reason, Step, Verdict};
use super::refuse::refuse;
use super::{echo, egress, flow, fragment, icmp, ingress, watch};
use crate::wire::{Fragment, IpVersion};

/// Decides what becomes of a packet, rewrites it and counts the reason.
#[inline(always)]
pub fn process<A: IpVersion, F: Frame, E: Env<A>>(frame: &mut F, env: &E, arrival: Arrival) -> Outcome {
    let outcome = run(frame, env, arrival);
    if outcome.verdict() != Verdict::Later
        && let Some(index) = outcome.reason().counter_index()
    {
        env.count_index(index);
    }
    outcome
}

#[inline(always)]
fn run<A: IpVersion, F: Frame, E: Env<A>>(frame: &mut F, env: &E, arrival: Arrival) -> Outcome {
    if E::STAGE != Stage::Rest {
        let mut headers = Headers::<A>::empty();
        if frame.is_seen_elsewhere(arrival) {
            return Outcome::pass(Reason::SEEN_ELSEWHERE);
        }
        if F::KERNEL_CLASSIFIES && is_for_others(frame, env, arrival) {
            return Outcome::pass(Reason::OTHER_HOST);
        }
        match headers.parse_plain(frame, F::L3) {
            Parsed::Other => return Outcome::pass(Reason::OTHER_PROTOCOL),
            Parsed::Unusual | Parsed::Icmp => {}
            Parsed::Flow => match look(env, &headers, arrival) {
                Fast::Hit(_) if !F::KERNEL_CLASSIFIES && is_for_others(frame, env, arrival) => {
                    return Outcome::pass(Reason::OTHER_HOST);
                }
                Fast::Hit(flow) => return translate(frame, env, arrival, &headers, flow),
                Fast::Pass => return Outcome::pass(Reason::NOT_SERVED),
                Fast::Slow => {}
            },
        }
    }
    if E::STAGE == Stage::First {
        return Outcome::later();
    }
    if !F::KERNEL_CLASSIFIES && is_for_others(frame, env, arrival) {
        return Outcome::pass(Reason::OTHER_HOST);
    }
    rest(frame, env, arrival)
}

/// Whether a packet from outside is addressed to another host, or to several: a switch floods, a bridge hears all. Whoever
/// it is for answers it.
#[inline(always)]
fn is_for_others<A: IpVersion, F: Frame, E: Env<A>>(frame: &F, env: &E, arrival: Arrival) -> bool {
    if !E::is_ingress(arrival) || !arrival.hook.is_uplink() || frame.is_for_this_host() {
        return false;
    }
    is_addressed_elsewhere(frame, env, arrival.ifindex)
}

/// As a call, for the verifier: its paths are one again when it returns.
#[inline(never)]
fn is_addressed_elsewhere<A: IpVersion, F: Frame, E: Env<A>>(frame: &F, env: &E, ifindex: u32) -> bool {
    env.hardware_address(ifindex).is_some_and(|mac| !frame.is_addressed_to(mac))
}

/// The way of a packet that is not an ordinary one of a flow.
#[inline(never)]
fn rest<A: IpVersion, F: Frame, E: Env<A>>(frame: &mut F, env: &E, arrival: Arrival) -> Outcome {
    let Some(mut headers) = env.headers() else { return Outcome::pass(Reason::NO_MEMORY) };
    let headers = &mut *headers;
    *headers = Headers::empty();
    match rare::parsed(frame, headers) {
        Parsed::Flow => {}
        Parsed::Icmp => {
            let outcome = echo::answer(frame, env, arrival, headers);
            return if outcome == echo::NO_REQUEST { icmp::translate(frame, env, arrival, headers) } else { outcome };
        }
        Parsed::Other | Parsed::Unusual => return fragment::without_ports(frame, env, arrival, headers),
    }
    if headers.fragment != Fragment::None {
        let outcome = fragment::complete(frame, env, arrival, headers);
        if outcome != fragment::KNOWN {
            return outcome;
        }
    }
    if flow::is_formers(env, &headers.key) {
        return Outcome::later();
    }
    let Some(mut scratch) = env.scratch() else { return Outcome::pass(Reason::NO_MEMORY) };
    scratch.forget();
    let decision = rare::decided(env, headers, arrival, &mut scratch, !headers.may_be_of_flow(F::L3));
    let step = decision.step();
    if step == Step::Pass {
        return Outcome::pass(decision.reason());
    }
    if step != Step::Translate {
        scratch.end();
    }
    let flow = env.decided(scratch);
    let outcome = match step {
        Step::Translate => rare::translated(frame, env, arrival, headers, flow).of_new_flow(decision),
        Step::Refuse => rare::refused(frame, env, arrival, headers, decision.reason()),
        Step::Pass | Step::Drop => Outcome::leave(Verdict::Drop, 0, decision.reason()),
    };
    let outcome = outcome.settled(env);
    rare::blame(env, flow.service, outcome.reason());
    watch::tell(env, arrival.ifindex, headers, flow, outcome);
    outcome
}

#[inline(always)]
fn look<A: IpVersion, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> Fast<E::Flow> {
    if E::is_ingress(arrival) { ingress::look(env, headers, arrival) } else { egress::look(env, headers, arrival) }
}

/// What the first stage has inlined, or has not at all, as calls: a kernel program's stack has 512 bytes for the whole
/// chain of them.
mod rare {
    use super::super::env::Env;
    use super::super::outcome::{Decision, Fast, Outcome, Reason};
    use super::super::scratch::Scratch;
    use super::{Arrival, Frame, Headers, IpVersion, Parsed, egress, ingress, look, refuse, translate};
    use crate::abi::is_of_service;

    #[inline(never)]
    pub(super) fn parsed<A: IpVersion, F: Frame>(frame: &mut F, headers: &mut Headers<A>) -> Parsed {
        // Before, and not only where they cannot be read: for the verifier one walk through them is dear enough.
        frame.pull();
        headers.parse(frame, F::L3)
    }

    #[inline(never)]
    pub(super) fn translated<A: IpVersion, F: Frame, E: Env<A>>(
        frame: &mut F,
        env: &E,
        arrival: Arrival,
        headers: &Headers<A>,
        flow: E::Flow,
    ) -> Outcome {
        translate(frame, env, arrival, headers, flow)
    }

    #[inline(never)]
    pub(super) fn refused<A: IpVersion, F: Frame, E: Env<A>>(
        frame: &mut F,
        env: &E,
        arrival: Arrival,
        headers: &Headers<A>,
        reason: Reason,
    ) -> Outcome {
        refuse(frame, env, arrival, headers, reason)
    }

    /// Counts a reason for the service port that it concerns, if it does concern one.
    #[inline(never)]
    pub(super) fn blame<A: IpVersion, E: Env<A>>(env: &E, service: u32, reason: Reason) {
        if let Some(index) = reason.counter_index()
            && is_of_service(index)
        {
            env.blame(service, index);
        }
    }

    /// `looked_at`: the first stage has seen that the packet is not an ordinary one of a flow.
    #[inline(always)]
    pub(super) fn decided<A: IpVersion, E: Env<A>>(
        env: &E,
        headers: &Headers<A>,
        arrival: Arrival,
        scratch: &mut Scratch<A>,
        looked_at: bool,
    ) -> Decision {
        if !looked_at && let Some(decision) = looked(env, headers, arrival, scratch).settled() {
            return decision;
        }
        if E::is_ingress(arrival) {
            ingress::decide(env, headers, arrival, scratch)
        } else {
            egress::decide(env, headers, arrival, scratch)
        }
    }

    #[inline(never)]
    fn looked<A: IpVersion, E: Env<A>>(
        env: &E,
        headers: &Headers<A>,
        arrival: Arrival,
        scratch: &mut Scratch<A>,
    ) -> Decision {
        match look(env, headers, arrival) {
            Fast::Hit(flow) => {
                scratch.rewrite_as(&flow);
                Decision::TRANSLATE
            }
            Fast::Pass => Decision::PASS,
            Fast::Slow => Decision::OPEN,
        }
    }
}
