//! ICMP echo (RFC 792, RFC 4443 section 4): a request for a Service's address becomes its own reply while the Service has
//! endpoints there. No Pod is asked.

use super::arrival::Arrival;
use super::deliver::may_send;
use super::env::{Env, Host, Services};
use super::frame::Frame;
use super::headers::Headers;
use super::limit;
use super::outcome::{Outcome, Reason, Verdict};
use super::refuse::turn_link_header;
use crate::abi::{Address, Counter, FrontendKey, FrontendValue, SourceRangeKey, config_flag, frontend_flag};
use crate::wire::bytes::{half, hi, join, lo};
use crate::wire::{IpVersion, Read, checksum, icmp};

/// Types of the family's echo request and reply.
#[inline(always)]
const fn types<A: IpVersion>() -> (u8, u8) {
    if A::IS_V6 { icmp::echo::<true>() } else { icmp::echo::<false>() }
}

/// The message is no echo request.
pub(super) const NO_REQUEST: Outcome = Outcome::pass(Reason::TRANSLATED);

/// Whether an ICMP message is an echo request.
#[inline(always)]
fn is_request<A: IpVersion, P: Read>(pkt: &P, headers: &Headers<A>) -> bool {
    pkt.u16_at(usize::from(headers.l4)).is_some_and(|two| two.to_ne_bytes()[0] == types::<A>().0)
}

/// Answers an echo request for an address of a Service that has endpoints; any other is left alone. The node's own
/// requests are met where they would leave by an uplink. [`NO_REQUEST`]: another message, not touched.
#[inline(never)]
pub(super) fn answer<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
) -> Outcome {
    if !is_request(frame, headers) {
        return NO_REQUEST;
    }
    if !(E::is_ingress(arrival) || arrival.hook.is_uplink()) || !is_answered(env, headers.key.src, headers.key.dst) {
        return Outcome::pass(Reason::NOT_SERVED);
    }
    if !may_send::<A, F, E>(env, arrival.ifindex) {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    if !limit::may_answer(env, headers.key.src) {
        return Outcome::drop(Counter::DropRefusalLimited);
    }
    match turn(frame, headers) {
        Some(()) => Outcome::leave(Verdict::Bounce, arrival.ifindex, Reason::counted(Counter::EchoAnswered)),
        None => Outcome::drop(Counter::DropRewrite),
    }
}

/// Whether clients at `src` get answers from `dst`.
#[inline(always)]
fn is_answered<A: Address, E: Env<A>>(env: &E, src: A, dst: A) -> bool {
    env.may_be_frontend_address(dst)
        && served_at(env, dst).is_some_and(|own| {
            own.flags & frontend_flag::SOURCE_RANGES == 0
                || env.in_source_range(&SourceRangeKey { service: own.service, addr: src })
        })
}

/// The entry of an address that answers echo requests.
#[inline(always)]
pub(super) fn served_at<A: Address, E: Services<A> + Host<A>>(env: &E, addr: A) -> Option<FrontendValue> {
    if env.config().flags & config_flag::NO_ECHO != 0 {
        return None;
    }
    env.frontend(&FrontendKey::of_address(addr)).filter(|own| own.flags & frontend_flag::ANSWERS_ECHO != 0)
}

/// Turns a request into its reply.
#[inline(never)]
fn turn<A: IpVersion, F: Frame>(frame: &mut F, headers: &Headers<A>) -> Option<()> {
    let l4 = usize::from(headers.l4);
    let [first] = frame.u32s_at::<1>(l4)?;
    // Cut off on its way, it is nobody's.
    if frame.unsegmented_len(headers.datagram) < headers.datagram {
        return None;
    }
    let [_, code, ..] = first.to_ne_bytes();
    let reply = half(types::<A>().1, code);
    let change = checksum::delta(u64::from(hi(first)), u64::from(reply));
    turn_link_header(frame)?;
    A::turn_around(frame, F::L3, (headers.key.src, headers.key.dst), usize::from(headers.datagram))?;
    frame.put_u32s(l4, [join(reply, checksum::update(lo(first), change))])
}
