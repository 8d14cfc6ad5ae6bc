//! A packet that leaves by redirect and is larger than its way takes, where IPv4 lets it be fragmented (RFC 791 section
//! 2.3), as the stack would have done: in two, so it may have almost twice what the way takes.

use super::env::{Env, NextHop};
use super::frame::Frame;
use super::headers::Headers;
use super::rewrite::rewrite;
use super::transport;
use crate::abi::held::CELL;
use crate::abi::{Counter, FlowValue};
use crate::wire::bytes::half;
use crate::wire::ip::position;
use crate::wire::{Fragment, IpVersion, checksum};

/// Whether a packet may be fragmented by those on its way.
#[inline(always)]
pub(super) fn may_be_fragmented<A: IpVersion, F: Frame>(frame: &F) -> bool {
    !A::IS_V6 && A::position(frame, F::L3).is_some_and(|at| at & position::DONT_FRAGMENT == 0)
}

/// Completes a next hop: a look-up that finds a packet too large does not say where it would go. Asked about none, the kernel
/// would look at the packet at hand.
#[inline(never)]
pub(super) fn resolve<A: IpVersion, E: Env<A>>(env: &E, dst: A, hop: &mut NextHop) {
    if let Some(found) = env.next_hop(dst, A::HEADER_LENGTH) {
        *hop = NextHop { limit: hop.limit, ..found };
    }
}

/// Bytes behind the header that the first of two fragments takes: a multiple of 8.
#[inline(always)]
fn room<A: IpVersion>(hop: &NextHop) -> usize {
    usize::from(hop.limit).saturating_sub(A::HEADER) & !7
}

/// Whether a packet can be sent in two fragments by this hop: it has no options, and its checksum is complete.
#[inline(never)]
pub(super) fn is_possible<A: IpVersion, F: Frame>(frame: &F, headers: &Headers<A>, hop: &NextHop) -> bool {
    let (l4, room) = (usize::from(headers.l4), room::<A>(hop));
    let Some(at) = A::position(frame, F::L3) else { return false };
    let fits = usize::from(at & position::OFFSET) + room / 8 <= usize::from(position::OFFSET);
    if F::L3 == 0 || l4 != F::L3 + A::HEADER || !hop.resolved || !fits {
        return false;
    }
    let Some(length) = frame.length() else { return false };
    let length = usize::from(length);
    let rest = length.saturating_sub(l4 + room);
    let whole = length == F::L3 + usize::from(headers.datagram);
    whole && rest != 0 && rest <= room && rest <= CELL && !is_unfinished(frame, headers)
}

/// Whether a device is still to add the packet's own sum to that of the pseudo-header, which is all that its checksum's
/// field holds. One packet in 65,536 looks like that by chance, and is treated as if it could not be fragmented.
#[inline(always)]
fn is_unfinished<A: IpVersion, F: Frame>(frame: &F, headers: &Headers<A>) -> bool {
    if headers.fragment != Fragment::None {
        return false;
    }
    let (field, _) = transport::checksum_field(headers.key.proto);
    let length = headers.datagram.saturating_sub(A::HEADER_LENGTH).to_be();
    let pseudo = headers.key.src.sum() + headers.key.dst.sum() + u64::from(half(0, headers.key.proto));
    frame.u16_at(usize::from(headers.l4) + field) == Some(checksum::fold(pseudo + u64::from(length)))
}

/// Rewrites a packet for which that [is possible](is_possible), sends its first part, and makes it the second.
#[inline(never)]
pub(super) fn split<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    headers: &Headers<A>,
    flow: &FlowValue<A>,
    hop: &NextHop,
) -> Option<()> {
    let (l4, room) = (usize::from(headers.l4), room::<A>(hop));
    let at = A::position(frame, F::L3)?;
    rewrite(frame, headers, flow, 1)?;
    let mut scratch = env.scratch()?;
    let piece = &mut scratch.holding.piece;
    frame.copy_out(u16::try_from(l4 + room).ok()?, piece)?;
    frame.resize(l4 + room)?;
    A::store_fragment(frame, F::L3, room, at | position::MORE)?;
    frame.put_u32s(0, hop.ethernet)?;
    frame.send(hop.ifindex)?;
    let rest = usize::from(piece.length);
    frame.resize(l4 + rest)?;
    piece.at = u16::from(headers.l4);
    frame.copy_in(piece)?;
    A::store_fragment(frame, F::L3, rest, at + u16::try_from(room / 8).ok()?)?;
    env.count(Counter::PacketFragmented);
    Some(())
}
