//! The answer to a packet that is refused: TCP RST (RFC 9293 section 3.10.7.1), or an ICMP error (RFC 792, RFC 4443
//! section 3). The offending packet becomes its own answer; the caller has resized it and sends it back to where it
//! came from.

use super::checksum;
use super::ip::{IpVersion, sum};
use super::packet::{Store, first, half, join, second, word};
use super::parse::{Fragment, Headers, tcp_flag};
use crate::abi::proto;

/// Length of a TCP header without options.
const TCP: usize = 20;
/// Bytes of an offending datagram's transport header that an ICMP error quotes. Of a segment it is the whole header: an
/// skb with an unfinished checksum cannot be cut to less.
const QUOTED: usize = 8;
/// Hop limit of answers.
pub(super) const HOPS: u8 = 64;

/// Length to cut a TCP segment to before [`rst`].
#[inline(always)]
pub fn rst_length<A>(headers: &Headers<A>) -> usize {
    usize::from(headers.l4) + TCP
}

/// Why a packet is answered with an ICMP error. No enum with a payload: one that has none is an unwritten register,
/// which the verifier does not let a program pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// ICMP type and code.
    pub(super) v4: (u8, u8),
    /// `ICMPv6` type and code.
    pub(super) v6: (u8, u8),
    /// Bytes that the way takes, or 0.
    pub(super) mtu: u16,
}

impl Trouble {
    /// Port unreachable.
    pub const NO_PORT: Self = Self { v4: (3, 3), v6: (1, 4), mtu: 0 };
    /// The hop limit has run out.
    pub const EXPIRED: Self = Self { v4: (11, 0), v6: (3, 0), mtu: 0 };

    /// Larger than the way to the backend takes: fragmentation needed, packet too big.
    #[inline(always)]
    pub const fn too_big(mtu: u16) -> Self {
        Self { v4: (3, 4), v6: (2, 0), mtu }
    }
}

/// Length to cut a packet to before room is made for [`complain`].
#[inline(always)]
pub fn complaint_length<A>(headers: &Headers<A>) -> usize {
    usize::from(headers.l4) + if headers.key.proto == proto::TCP { TCP } else { QUOTED }
}

/// Room to make behind the Ethernet header for [`complain`]; `None` where the packet has IP options or extension
/// headers, or is not the first of its fragments: those are not answered.
#[inline(always)]
pub fn complaint_room<A: IpVersion>(l3: usize, headers: &Headers<A>) -> Option<usize> {
    let plain = usize::from(headers.l4) == l3 + A::HEADER && headers.fragment != Fragment::Later;
    plain.then_some(A::HEADER + 8)
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

/// Turns a packet, already cut to [`complaint_length`] and with [`complaint_room`] made behind its Ethernet header,
/// into the ICMP error that answers it. It comes from where the packet was going.
#[inline(always)]
pub fn complain<A: IpVersion, P: Store>(pkt: &mut P, l3: usize, headers: &Headers<A>, why: Trouble) -> Option<()> {
    if l3 != 0 {
        swap_macs(pkt)?;
    }
    let quote = l3 + A::HEADER + 8;
    if headers.key.proto == proto::TCP {
        let sum = sum(pkt, quote, A::HEADER / 4 + TCP / 4)?;
        A::store_error(pkt, l3, headers, why, TCP, sum)
    } else {
        let sum = sum(pkt, quote, A::HEADER / 4 + QUOTED / 4)?;
        A::store_error(pkt, l3, headers, why, QUOTED, sum)
    }
}
