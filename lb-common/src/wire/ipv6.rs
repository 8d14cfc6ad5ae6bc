//! IPv6 (RFC 8200).

use super::bytes::{Read, Write, half, hi, join, lo, word};
use super::checksum;
use super::icmp::{HOPS, IcmpError};
use super::ip::{Fragment, IpHeader, IpVersion};
use crate::abi::{Address, V6, proto};

/// Offset of the word with payload length, next header and hop limit.
const NEXT: usize = 4;
/// Offset of the source address.
const SRC: usize = 8;
/// Offset of the destination address.
const DST: usize = 24;
/// Extension headers passed over at most; a packet with more is left alone.
const MAX_EXTENSIONS: usize = 4;
/// Fragment header.
const FRAGMENT: u8 = 44;

/// What follows the fixed header: its protocol number, its offset, and whether it is a fragment.
#[inline(always)]
fn behind_extensions<P: Read>(pkt: &P, mut next: u8, mut at: usize) -> Option<(u8, usize, Fragment, u32)> {
    let (mut fragment, mut id) = (Fragment::None, 0);
    for _ in 0..MAX_EXTENSIONS {
        if !V6::is_extension(next) {
            break;
        }
        let [header, second] = pkt.u32s_at::<2>(at)?;
        let [following, length, ..] = header.to_ne_bytes();
        if next == FRAGMENT {
            let position = u16::from_be(lo(header));
            fragment = match (position & 1 != 0, position & 0xfff8) {
                (false, 0) => Fragment::None,
                (true, 0) => Fragment::First,
                _ => Fragment::Later,
            };
            id = second;
            at += 8;
        } else {
            at += (usize::from(length) + 1) * 8;
        }
        next = following;
        if fragment == Fragment::Later {
            break;
        }
    }
    Some((next, at, fragment, id))
}

impl IpVersion for V6 {
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const HEADER: usize = 40;
    const HEADER_LENGTH: u16 = 40;
    const ICMP: u8 = proto::ICMPV6;

    #[inline(always)]
    fn plain<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>> {
        let [w0, w1, s0, s1, s2, s3, d0, d1, d2, d3] = pkt.u32s_at::<10>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        let [_, _, protocol, hop_limit] = w1.to_ne_bytes();
        if version >> 4 != 6 || Self::is_extension(protocol) {
            return None;
        }
        let (src, dst, payload) = (Self([s0, s1, s2, s3]), Self([d0, d1, d2, d3]), l3 + Self::HEADER);
        let length = u16::from_be(hi(w1));
        Some(IpHeader { src, dst, protocol, hop_limit, fragment: Fragment::None, fragment_id: 0, payload, length })
    }

    #[inline(always)]
    fn parse<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>> {
        let [w0, w1, s0, s1, s2, s3, d0, d1, d2, d3] = pkt.u32s_at::<10>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        let [_, _, next, hop_limit] = w1.to_ne_bytes();
        if version >> 4 != 6 {
            return None;
        }
        let (protocol, payload, fragment, fragment_id) = behind_extensions(pkt, next, l3 + Self::HEADER)?;
        let (src, dst) = (Self([s0, s1, s2, s3]), Self([d0, d1, d2, d3]));
        let extensions = u16::try_from(payload - l3 - Self::HEADER).ok()?;
        let length = u16::from_be(hi(w1)).saturating_sub(extensions);
        Some(IpHeader { src, dst, protocol, hop_limit, fragment, fragment_id, payload, length })
    }

    #[inline(always)]
    fn is_extension(protocol: u8) -> bool {
        matches!(protocol, 0 | 43 | 60 | FRAGMENT)
    }

    #[inline(always)]
    fn rewrite<P: Write>(
        pkt: &mut P,
        l3: usize,
        (src, dst): (Self, Self),
        _delta: u16,
        hops: u8,
        ports: Option<u32>,
    ) -> Option<()> {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.0, dst.0);
        let [w1] = pkt.u32s_at::<1>(l3 + NEXT)?;
        let [a, b, next, limit] = w1.to_ne_bytes();
        let w1 = word(a, b, next, limit.wrapping_sub(hops));
        match ports {
            Some(ports) => pkt.put_u32s(l3 + NEXT, [w1, s0, s1, s2, s3, d0, d1, d2, d3, ports]),
            None => pkt.put_u32s(l3 + NEXT, [w1, s0, s1, s2, s3, d0, d1, d2, d3]),
        }
    }

    #[inline(always)]
    fn datagram_length<P: Read>(pkt: &P, l3: usize) -> Option<u32> {
        Some(u32::try_from(l3).ok()? + 40 + u32::from(u16::from_be(pkt.u16_at(l3 + NEXT)?)))
    }

    #[inline(always)]
    fn position<P: Read>(_pkt: &P, _l3: usize) -> Option<u16> {
        None
    }

    #[inline(always)]
    fn store_fragment<P: Write>(_pkt: &mut P, _l3: usize, _payload: usize, _position: u16) -> Option<()> {
        None
    }

    #[inline(always)]
    fn turn_around<P: Write>(pkt: &mut P, l3: usize, (src, dst): (Self, Self), length: usize) -> Option<()> {
        let [w1] = pkt.u32s_at::<1>(l3 + NEXT)?;
        let [_, _, next, _] = w1.to_ne_bytes();
        let length = u16::try_from(length.checked_sub(Self::HEADER)?).ok()?.to_be();
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (dst.0, src.0);
        pkt.put_u32s(l3 + NEXT, [join(length, half(next, HOPS)), s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn store_error<P: Write>(
        pkt: &mut P,
        l3: usize,
        (src, dst): (Self, Self),
        error: IcmpError,
        quoted: usize,
        sum: u64,
    ) -> Option<()> {
        let (kind, rest) = (half(error.v6.0, error.v6.1), u32::from(error.mtu).to_be());
        let length = half(0, u8::try_from(8 + 40 + quoted).ok()?);
        let pseudo = src.sum()
            + dst.sum()
            + u64::from(length)
            + u64::from(half(0, proto::ICMPV6))
            + u64::from(kind)
            + u64::from(rest);
        let check = !checksum::fold(pseudo + sum);
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (dst.0, src.0);
        pkt.put_u32s(l3, [word(0x60, 0, 0, 0), join(length, half(proto::ICMPV6, HOPS)), s0, s1, s2, s3])?;
        pkt.put_u32s(l3 + DST, [d0, d1, d2, d3, join(kind, check), rest])
    }

    #[inline(always)]
    fn rewrite_quoted<P: Write>(pkt: &mut P, l3: usize, src: Self, dst: Self, _delta: u16) -> Option<u16> {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.0, dst.0);
        pkt.put_u32s(l3 + SRC, [s0, s1, s2, s3, d0, d1, d2, d3])?;
        Some(0)
    }
}
