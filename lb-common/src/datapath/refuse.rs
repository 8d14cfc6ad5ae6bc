//! The answer to a packet that is refused: TCP RST (RFC 9293 section 3.10.7.1), or an ICMP error (RFC 792, RFC 4443
//! section 3). The offending packet becomes its own answer, which goes back to where it came from.

use super::arrival::Arrival;
use super::deliver::{answers_later, may_send};
use super::env::Env;
use super::frame::Frame;
use super::headers::Headers;
use super::limit;
use super::outcome::{Outcome, Reason, Verdict};
use super::transport::{self, Refusal};
use crate::abi::{Counter, proto};
use crate::wire::bytes::{half, join, sum, word};
use crate::wire::ethernet::swap_addresses;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::tcp::{self, flag};
use crate::wire::{Fragment, IpVersion, checksum};

/// Answers a packet that is refused, where that can be done.
#[inline(always)]
pub(super) fn refuse<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
    reason: Reason,
) -> Outcome {
    if !may_send::<A, F, E>(env, arrival.ifindex) {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    let answered = if headers.fragment == Fragment::Later {
        None
    } else if !limit::may_answer(env, headers.key.src) {
        return Outcome::drop(Counter::DropRefusalLimited);
    } else {
        match transport::refusal(headers.key.proto) {
            Refusal::Reset => reset(frame, headers),
            Refusal::PortUnreachable => icmp_error(frame, headers, IcmpError::NO_PORT),
        }
    };
    let verdict = if answered.is_some() { Verdict::Bounce } else { Verdict::Drop };
    Outcome::leave(verdict, arrival.ifindex, reason)
}

/// Drops a packet and tells its sender why, where that can be done.
#[inline(always)]
pub(super) fn drop_with_icmp<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
    counter: Counter,
    error: IcmpError,
) -> Outcome {
    if answers_later(E::STAGE) {
        return Outcome::later();
    }
    if !may_send::<A, F, E>(env, arrival.ifindex) {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    // What path MTU discovery needs has no limit, as in the kernel.
    let limited = error.is_limited() && !limit::may_answer(env, headers.key.src);
    let answered = !limited && icmp_error(frame, headers, error).is_some();
    let verdict = if answered { Verdict::Bounce } else { Verdict::Drop };
    Outcome::leave(verdict, arrival.ifindex, Reason::counted(counter))
}

/// What a RST has to say.
#[derive(Clone, Copy, Debug)]
struct RstFields {
    /// Sequence number, as it lies in the packet.
    seq: u32,
    /// Acknowledgement number, as it lies in the packet.
    ack: u32,
    /// Flags.
    flags: u8,
}

/// Reads what a RST has to answer, before the segment is cut.
#[inline(always)]
fn rst_fields<A: IpVersion, F: Frame>(frame: &F, headers: &Headers<A>) -> Option<RstFields> {
    let [_, seq, ack, offset, _] = frame.u32s_at::<{ tcp::WORDS }>(usize::from(headers.l4))?;
    if headers.flags & flag::ACK != 0 {
        return Some(RstFields { seq: ack, ack: 0, flags: flag::RST });
    }
    let [offset, ..] = offset.to_ne_bytes();
    let header = u32::from(offset >> 4) * 4;
    let payload = A::datagram_length(frame, F::L3)?.saturating_sub(u32::from(headers.l4)).saturating_sub(header);
    let syn = u32::from(headers.flags & flag::SYN != 0);
    let fin = u32::from(headers.flags & flag::FIN != 0);
    let next = u32::from_be(seq).wrapping_add(payload).wrapping_add(syn).wrapping_add(fin);
    Some(RstFields { seq: 0, ack: next.to_be(), flags: flag::RST | flag::ACK })
}

/// Turns a segment into the RST that answers it.
#[inline(never)]
fn reset<A: IpVersion, F: Frame>(frame: &mut F, headers: &Headers<A>) -> Option<()> {
    let l4 = usize::from(headers.l4);
    let fields = rst_fields(frame, headers)?;
    frame.resize(l4 + tcp::HEADER)?;
    let RstFields { seq, ack, flags } = fields;
    let ports = join(headers.key.dport.0, headers.key.sport.0);
    let own = u64::from(ports) + u64::from(seq) + u64::from(ack) + u64::from(half(0x50, flags));
    let pseudo =
        headers.key.src.sum() + headers.key.dst.sum() + u64::from(half(0, proto::TCP)) + u64::from(half(0, 20));
    turn_link_header(frame)?;
    A::turn_around(frame, F::L3, (headers.key.src, headers.key.dst), l4 - F::L3 + tcp::HEADER)?;
    // The checksum's field holds negative zero until it is completed.
    frame.put_u32s(l4, [ports, seq, ack, word(0x50, flags, 0, 0), word(0xff, 0xff, 0, 0)])?;
    let (pseudo, own) = (checksum::fold(pseudo), checksum::fold(own));
    frame.complete_checksum(l4 + tcp::CHECKSUM, pseudo, own)
}

#[inline(always)]
pub(super) fn turn_link_header<F: Frame>(frame: &mut F) -> Option<()> {
    if F::L3 == 0 { Some(()) } else { swap_addresses(frame) }
}

/// Turns a packet into the ICMP error that answers it. It comes from where the packet was going. Packets with IP options
/// or extension headers, and later fragments, are not answered.
#[inline(always)]
fn icmp_error<A: IpVersion, F: Frame>(frame: &mut F, headers: &Headers<A>, error: IcmpError) -> Option<()> {
    // Calls in turn: the stack of each is less than that of all.
    make_quote(frame, headers)?;
    let sum = quote_sum(frame, headers)?;
    store_error(frame, headers, error, sum)
}

/// Makes the packet a quotation of itself, with room for the error's headers in front of it.
#[inline(never)]
fn make_quote<A: IpVersion, F: Frame>(frame: &mut F, headers: &Headers<A>) -> Option<()> {
    if usize::from(headers.l4) != F::L3 + A::HEADER || headers.fragment == Fragment::Later {
        return None;
    }
    frame.resize(usize::from(headers.l4) + transport::quoted(headers.key.proto))?;
    frame.make_room(A::HEADER + icmp::HEADER)?;
    turn_link_header(frame)
}

/// The folded sum over the quoted packet.
#[inline(never)]
fn quote_sum<A: IpVersion, F: Frame>(frame: &F, headers: &Headers<A>) -> Option<u16> {
    let (quote, header) = (F::L3 + A::HEADER + icmp::HEADER, A::HEADER / 4);
    // Constants in both branches, since the verifier has to see the bounds.
    let sum = match transport::quoted(headers.key.proto) {
        tcp::HEADER => sum(frame, quote, header + tcp::HEADER / 4),
        _ => sum(frame, quote, header + 2),
    }?;
    Some(checksum::fold(sum))
}

#[inline(never)]
fn store_error<A: IpVersion, F: Frame>(frame: &mut F, headers: &Headers<A>, error: IcmpError, sum: u16) -> Option<()> {
    let quoted = transport::quoted(headers.key.proto);
    A::store_error(frame, F::L3, (headers.key.src, headers.key.dst), error, quoted, u64::from(sum))
}
