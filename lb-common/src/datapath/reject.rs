//! The answer to a packet that is refused: TCP RST (RFC 9293 section 3.10.7.1), or ICMP port unreachable for UDP
//! (RFC 792, RFC 4443 section 3.1). The offending packet becomes its own answer; the caller has resized it and sends
//! it back to where it came from.

use super::checksum;
use super::ip::IpVersion;
use super::packet::{Store, first, half, join, second, word};
use super::parse::{Headers, tcp_flag};
use crate::abi::proto;

/// Length of a TCP header without options.
const TCP: usize = 20;
/// Bytes of the offending datagram's transport header that an ICMP error quotes.
const QUOTED: usize = 8;
/// Hop limit of answers.
pub(super) const HOPS: u8 = 64;

/// Length to cut a TCP segment to before [`rst`].
#[inline(always)]
pub fn rst_length<A>(headers: &Headers<A>) -> usize {
    usize::from(headers.l4) + TCP
}

/// Length to cut a UDP datagram to before room is made for [`unreachable()`].
#[inline(always)]
pub fn unreachable_length<A>(headers: &Headers<A>) -> usize {
    usize::from(headers.l4) + QUOTED
}

/// Room to make behind the Ethernet header for [`unreachable()`]; `None` where the datagram has IP options or extension
/// headers, which are not answered.
#[inline(always)]
pub fn unreachable_room<A: IpVersion>(l3: usize, headers: &Headers<A>) -> Option<usize> {
    (usize::from(headers.l4) == l3 + A::HEADER).then_some(A::HEADER + 8)
}

/// What has to be known of a TCP segment before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Sequence number of the answer, as it lies in the packet.
    pub seq: u32,
    /// Acknowledgement number of the answer, as it lies in the packet.
    pub ack: u32,
    /// Flags of the answer.
    pub flags: u8,
}

/// Reads what a RST has to answer.
#[inline(always)]
pub fn refused<A: IpVersion, P: Store>(pkt: &P, l3: usize, headers: &Headers<A>) -> Option<Refused> {
    let [_, seq, ack, offset, _] = pkt.words::<5>(usize::from(headers.l4))?;
    if headers.tcp_flags & tcp_flag::ACK != 0 {
        return Some(Refused { seq: ack, ack: 0, flags: tcp_flag::RST });
    }
    let [offset, ..] = offset.to_ne_bytes();
    let header = u32::from(offset >> 4) * 4;
    let payload = A::datagram_length(pkt, l3)?.saturating_sub(u32::from(headers.l4)).saturating_sub(header);
    let syn = u32::from(headers.tcp_flags & tcp_flag::SYN != 0);
    let fin = u32::from(headers.tcp_flags & tcp_flag::FIN != 0);
    let next = u32::from_be(seq).wrapping_add(payload).wrapping_add(syn).wrapping_add(fin);
    Some(Refused { seq: 0, ack: next.to_be(), flags: tcp_flag::RST | tcp_flag::ACK })
}

/// Swaps the Ethernet addresses.
#[inline(always)]
pub fn swap_macs<P: Store>(pkt: &mut P) -> Option<()> {
    let [d01, d2s0, s12] = pkt.words::<3>(0)?;
    // Six bytes each: destination is d01 and half of the middle word.
    pkt.store(0, [join(second(d2s0), first(s12)), join(second(s12), first(d01)), join(second(d01), first(d2s0))])
}

/// Turns a segment, already cut to [`rst_length`], into the RST that answers it.
#[inline(always)]
pub fn rst<A: IpVersion, P: Store>(pkt: &mut P, l3: usize, headers: &Headers<A>, refused: Refused) -> Option<()> {
    let l4 = usize::from(headers.l4);
    let Refused { seq, ack, flags } = refused;
    let ports = join(headers.key.dport.0, headers.key.sport.0);
    let own = u64::from(ports) + u64::from(seq) + u64::from(ack) + u64::from(half(0x50, flags));
    let pseudo =
        headers.key.src.sum() + headers.key.dst.sum() + u64::from(half(0, proto::TCP)) + u64::from(half(0, 20));
    if l3 != 0 {
        swap_macs(pkt)?;
    }
    A::turn_around(pkt, l3, headers, l4 - l3 + TCP)?;
    pkt.store(l4, [ports, seq, ack, word(0x50, flags, 0, 0), word(0xff, 0xff, 0, 0)])?;
    pkt.complete_checksum(l4 + 16, checksum::fold(pseudo), checksum::fold(own))
}

/// Turns a datagram, already cut to [`unreachable_length`] and with [`unreachable_room`] made behind its Ethernet
/// header, into the ICMP error that answers it.
#[inline(always)]
pub fn unreachable<A: IpVersion, P: Store>(pkt: &mut P, l3: usize, headers: &Headers<A>) -> Option<()> {
    if l3 != 0 {
        swap_macs(pkt)?;
    }
    A::store_unreachable(pkt, l3, headers)
}
