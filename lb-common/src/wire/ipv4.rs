//! IPv4 (RFC 791).

use super::bytes::{Read, Write, half, hi, join, lo, word};
use super::checksum;
use super::icmp::{HOPS, IcmpError};
use super::ip::position::{MORE, OFFSET};
use super::ip::{Fragment, IpHeader, IpVersion};
use crate::abi::{V4, proto};

/// Offset of the total length.
const LENGTH: usize = 2;
/// Offset of the word with time to live, protocol and checksum.
const TTL: usize = 8;
/// Offset of the checksum.
const CHECKSUM: usize = 10;
/// Offset of the source address.
const SRC: usize = 12;
/// Version 4 and a header of five words.
const PLAIN: u8 = 0x45;
/// Offset of flags and fragment offset.
const POSITION: usize = 6;
/// Flag "do not fragment", as the first of the two bytes.
const DF: u8 = 0x40;
/// Type of service of ICMP errors: internetwork control (RFC 1812 section 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;

/// Length of what follows a header of `header` bytes; the first word holds the whole packet's.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "a header has at most 60 bytes")]
const fn behind(w0: u32, header: usize) -> u16 {
    u16::from_be(lo(w0)).saturating_sub(header as u16)
}

impl IpVersion for V4 {
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const HEADER: usize = 20;
    const HEADER_LENGTH: u16 = 20;
    const ICMP: u8 = proto::ICMP;

    #[inline(always)]
    fn plain<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>> {
        let [w0, w1, w2, src, dst] = pkt.u32s_at::<5>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        if version != PLAIN || lo(w1) & (MORE | OFFSET).to_be() != 0 {
            return None;
        }
        let [hop_limit, protocol, ..] = w2.to_ne_bytes();
        let (src, dst, fragment, payload) = (Self(src), Self(dst), Fragment::None, l3 + Self::HEADER);
        let length = behind(w0, Self::HEADER);
        Some(IpHeader { src, dst, protocol, hop_limit, fragment, fragment_id: 0, payload, length })
    }

    #[inline(always)]
    fn parse<P: Read>(pkt: &P, l3: usize) -> Option<IpHeader<Self>> {
        let [w0, w1, w2, src, dst] = pkt.u32s_at::<5>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        let length = usize::from(version & 0x0f) * 4;
        if version >> 4 != 4 || length < Self::HEADER {
            return None;
        }
        let [hop_limit, protocol, ..] = w2.to_ne_bytes();
        let position = u16::from_be(lo(w1));
        let fragment = match (position & MORE != 0, position & OFFSET) {
            (false, 0) => Fragment::None,
            (true, 0) => Fragment::First,
            _ => Fragment::Later,
        };
        let (src, dst, fragment_id, payload) = (Self(src), Self(dst), u32::from(hi(w1)), l3 + length);
        let length = behind(w0, length);
        Some(IpHeader { src, dst, protocol, hop_limit, fragment, fragment_id, payload, length })
    }

    #[inline(always)]
    fn is_extension(_protocol: u8) -> bool {
        false
    }

    #[inline(always)]
    fn rewrite<P: Write>(
        pkt: &mut P,
        l3: usize,
        (src, dst): (Self, Self),
        delta: u16,
        hops: u8,
        ports: Option<u32>,
    ) -> Option<()> {
        let [w2] = pkt.u32s_at::<1>(l3 + TTL)?;
        let [ttl, protocol, ..] = w2.to_ne_bytes();
        let (old, new) = (half(ttl, protocol), half(ttl.wrapping_sub(hops), protocol));
        let delta = checksum::add(delta, checksum::delta(u64::from(old), u64::from(new)));
        let w2 = join(new, checksum::update(lo(w2), delta));
        match ports {
            Some(ports) => pkt.put_u32s(l3 + TTL, [w2, src.0, dst.0, ports]),
            None => pkt.put_u32s(l3 + TTL, [w2, src.0, dst.0]),
        }
    }

    #[inline(always)]
    fn datagram_length<P: Read>(pkt: &P, l3: usize) -> Option<u32> {
        Some(u32::try_from(l3).ok()? + u32::from(u16::from_be(pkt.u16_at(l3 + LENGTH)?)))
    }

    #[inline(always)]
    fn position<P: Read>(pkt: &P, l3: usize) -> Option<u16> {
        Some(u16::from_be(pkt.u16_at(l3 + POSITION)?))
    }

    #[inline(always)]
    fn store_fragment<P: Write>(pkt: &mut P, l3: usize, payload: usize, position: u16) -> Option<()> {
        let [w0, w1, w2] = pkt.u32s_at::<3>(l3)?;
        let (length, position) = (u16::try_from(Self::HEADER + payload).ok()?.to_be(), position.to_be());
        let old = u64::from(lo(w0)) + u64::from(lo(w1));
        let check = checksum::update(lo(w2), checksum::delta(old, u64::from(length) + u64::from(position)));
        pkt.put_u32s(l3, [join(hi(w0), length), join(hi(w1), position), join(hi(w2), check)])
    }

    #[inline(always)]
    fn turn_around<P: Write>(pkt: &mut P, l3: usize, (src, dst): (Self, Self), length: usize) -> Option<()> {
        let [w0, w1, w2] = pkt.u32s_at::<3>(l3)?;
        let [ttl, protocol, ..] = w2.to_ne_bytes();
        let length = u16::try_from(length).ok()?.to_be();
        let old = u64::from(lo(w0)) + u64::from(lo(w1)) + u64::from(half(ttl, protocol));
        let new = u64::from(length) + u64::from(half(DF, 0)) + u64::from(half(HOPS, protocol));
        let check = checksum::update(lo(w2), checksum::delta(old, new));
        let w2 = join(half(HOPS, protocol), check);
        pkt.put_u32s(l3, [join(hi(w0), length), join(hi(w1), half(DF, 0)), w2, dst.0, src.0])
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
        let (kind, rest) = (half(error.v4.0, error.v4.1), join(0, error.mtu.to_be()));
        let check = !checksum::fold(u64::from(kind) + u64::from(rest) + sum);
        let length = u8::try_from(20 + 8 + 20 + quoted).ok()?;
        let (w0, w1) = (word(PLAIN, ERROR_TOS, 0, length), word(0, 0, DF, 0));
        let hops = half(HOPS, proto::ICMP);
        let ip = u64::from(w0) + u64::from(w1) + u64::from(hops) + u64::from(src.0) + u64::from(dst.0);
        let w2 = join(hops, !checksum::fold(ip));
        pkt.put_u32s(l3, [w0, w1, w2, dst.0, src.0, join(kind, check), rest])
    }

    #[inline(always)]
    fn rewrite_quoted<P: Write>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16> {
        let old = pkt.u16_at(l3 + CHECKSUM)?;
        let new = checksum::update(old, delta);
        pkt.put_u16(l3 + CHECKSUM, new)?;
        pkt.put_u32s(l3 + SRC, [src.0, dst.0])?;
        Some(checksum::delta(u64::from(old), u64::from(new)))
    }
}
