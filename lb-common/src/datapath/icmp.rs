//! ICMP and ICMPv6 errors about flows (RFC 792, RFC 4443): the addresses outside and the packet quoted inside are
//! translated as the flow's packets are, so that path MTU discovery and refusals reach the right end.

use super::arrival::Arrival;
use super::deliver::{depart, way_out};
use super::env::{Env, NextHop};
use super::flow::is_formers;
use super::frame::Frame;
use super::headers::Headers;
use super::outcome::{Outcome, Reason};
use super::transport;
use crate::abi::{Address, Be16, Counter, FlowKey, FlowValue, flow_action, flow_kind};
use crate::wire::bytes::{hi, join, lo};
use crate::wire::{Fragment, IpHeader, IpVersion, Read, checksum, icmp};

/// The packet quoted in an ICMP error.
struct Quoted<A> {
    key: FlowKey<A>,
    /// Offset of its network header.
    l3: u8,
    /// Offset of its transport header.
    l4: u8,
    /// The error is "port unreachable": who was asked does not listen there.
    refused: bool,
    /// What the message's hop limit loses.
    hops: u8,
}

#[inline(always)]
fn quoted<A: IpVersion, P: Read>(pkt: &P, headers: &Headers<A>) -> Option<Quoted<A>> {
    let at = usize::from(headers.l4);
    let [kind, code] = pkt.u16_at(at)?.to_ne_bytes();
    let error = if A::IS_V6 { icmp::is_error::<true>(kind) } else { icmp::is_error::<false>(kind) };
    if !error {
        return None;
    }
    let l3 = at + icmp::HEADER;
    let IpHeader { src, dst, protocol, fragment, payload: l4, .. } = A::parse(pkt, l3)?;
    // Of a datagram in fragments the first has the ports, and is as large as any.
    if fragment == Fragment::Later || !transport::is_served(protocol) {
        return None;
    }
    let [ports, _] = pkt.u32s_at::<2>(l4)?;
    Some(Quoted {
        key: FlowKey { src, dst, sport: Be16(hi(ports)), dport: Be16(lo(ports)), proto: protocol, pad: [0; 3] },
        l3: u8::try_from(l3).ok()?,
        l4: u8::try_from(l4).ok()?,
        refused: if A::IS_V6 { (kind, code) == (1, 4) } else { (kind, code) == (3, 3) },
        hops: 0,
    })
}

/// The flow that an error is about: coming in, of a reply to a client or of a request under an SNAT port; leaving
/// towards a client, of a translated request.
#[inline(always)]
fn find<A: Address, E: Env<A>>(env: &E, arrival: Arrival, quoted: &FlowKey<A>) -> Option<E::Flow> {
    let ingress = E::is_ingress(arrival);
    let key = if ingress { quoted.flipped() } else { *quoted };
    let flow = match env.flow(&key) {
        Some(flow) => flow,
        None => env.half_open(&key)?,
    };
    let fits = match flow.kind {
        flow_kind::FORWARD | flow_kind::REVERSE_SNAT => ingress,
        flow_kind::REVERSE => !ingress,
        _ => false,
    };
    if fits { Some(flow) } else { None }
}

/// Translates an ICMP message that is about a flow.
#[inline(never)]
pub(super) fn translate<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
) -> Outcome {
    let Some(mut quoted) = quoted(frame, headers) else { return Outcome::pass(Reason::NOT_SERVED) };
    let Some(flow) = find(env, arrival, &quoted.key) else {
        return if is_formers(env, &quoted.key) { Outcome::later() } else { Outcome::pass(Reason::NOT_SERVED) };
    };
    let outcome = translate_as(frame, env, arrival, (headers, &mut quoted), flow);
    let from_backend = flow.kind != flow_kind::FORWARD && headers.key.src == quoted.key.dst;
    if quoted.refused && from_backend && outcome.reason() == Reason::counted(Counter::IcmpTranslated) {
        env.refused(flow.backend, flow.generation);
    }
    outcome
}

/// Translates it as the flow's entry says.
#[inline(always)]
fn translate_as<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    (headers, quoted): (&Headers<A>, &mut Quoted<A>),
    flow: E::Flow,
) -> Outcome {
    if !E::is_ingress(arrival) || flow_action::keeps_source(flow.action) {
        if !frame.mark_translated() {
            return Outcome::pass(Reason::HANDED_OVER);
        }
        return match write(frame, headers, quoted, &flow) {
            Some(()) => Outcome::pass(Reason::counted(Counter::IcmpTranslated)),
            None => Outcome::drop(Counter::DropRewrite),
        };
    }
    let mut hop = NextHop::default();
    let way = error_way_out::<A, F, E>(env, arrival, &flow, &mut hop);
    if way.reason() != Reason::TRANSLATED {
        return way;
    }
    if headers.hop_limit <= 1 {
        return Outcome::drop(Counter::DropTtl);
    }
    quoted.hops = 1;
    if write(frame, headers, quoted, &flow).is_none() {
        return Outcome::drop(Counter::DropRewrite);
    }
    let outcome = depart(frame, way, &hop);
    if outcome == way { outcome.because(Reason::counted(Counter::IcmpTranslated)) } else { outcome }
}

/// [`way_out`] as a call, for the sake of the stack.
#[inline(never)]
fn error_way_out<A: IpVersion, F: Frame, E: Env<A>>(
    env: &E,
    arrival: Arrival,
    flow: &FlowValue<A>,
    hop: &mut NextHop,
) -> Outcome {
    way_out::<A, F, E>(env, arrival, flow, 0, hop)
}

/// Writes the translation. `None`: a part of the packet was not there. Two calls in
/// turn, for the sake of the stack.
#[inline(always)]
fn write<A: IpVersion, F: Frame>(
    frame: &mut F,
    headers: &Headers<A>,
    quoted: &Quoted<A>,
    flow: &FlowValue<A>,
) -> Option<()> {
    let message = write_quoted(frame, quoted, flow)?;
    write_outer(frame, headers, quoted, flow, message)
}

/// Writes the addresses and the checksum around the quoted packet, whose own changes have the sum `message`.
#[inline(never)]
fn write_outer<A: IpVersion, F: Frame>(
    frame: &mut F,
    headers: &Headers<A>,
    quoted: &Quoted<A>,
    flow: &FlowValue<A>,
    message: u16,
) -> Option<()> {
    let outer = &headers.key;
    // The far end of the flow speaks for itself: hide it as its packets are hidden. A router in between stays who it
    // is, unless the flow leaves under another source anyway.
    let forward_snat = flow.kind == flow_kind::FORWARD && !flow_action::keeps_source(flow.action);
    let src = if outer.src == quoted.key.dst || forward_snat { flow.src } else { outer.src };
    let outer_delta = checksum::delta(outer.src.sum() + outer.dst.sum(), src.sum() + flow.dst.sum());
    let message = if A::IS_V6 { checksum::add(message, outer_delta) } else { message };
    let field = usize::from(headers.l4) + icmp::CHECKSUM;
    let old = frame.u16_at(field)?;
    frame.put_u16(field, checksum::update(old, message))?;
    A::rewrite(frame, F::L3, (src, flow.dst), outer_delta, quoted.hops, None)
}

/// Translates the packet inside, which travelled the other way. Returns the sum of all changes.
#[inline(never)]
fn write_quoted<A: IpVersion, F: Frame>(frame: &mut F, quoted: &Quoted<A>, flow: &FlowValue<A>) -> Option<u16> {
    let (l3, l4, key) = (usize::from(quoted.l3), usize::from(quoted.l4), &quoted.key);
    let addresses = checksum::delta(key.src.sum() + key.dst.sum(), flow.dst.sum() + flow.src.sum());
    let ports = checksum::delta(
        u64::from(key.sport.0) + u64::from(key.dport.0),
        u64::from(flow.dport.0) + u64::from(flow.sport.0),
    );
    let both = checksum::add(addresses, ports);
    let mut message = both;
    // A TCP checksum is there only where more than the obligatory eight bytes are quoted.
    let (field, optional) = transport::checksum_field(key.proto);
    if let Some(old) = frame.u16_at(l4 + field)
        && old != 0
    {
        let new = match checksum::update(old, both) {
            // As it was sent (RFC 768).
            0 if optional => 0xffff,
            new => new,
        };
        message = checksum::add(message, checksum::delta(u64::from(old), u64::from(new)));
        frame.put_u16(l4 + field, new)?;
    }
    frame.put_u32s(l4, [join(flow.dport.0, flow.sport.0)])?;
    let header = A::rewrite_quoted(frame, l3, flow.dst, flow.src, addresses)?;
    Some(checksum::add(message, header))
}
