//! The two IP versions' header formats: all that differs between IPv4 (RFC 791) and IPv6 (RFC 8200).

use super::checksum;
use super::packet::{Packet, Store, first, half, join, second, word};
use super::parse::{Fragment, Headers, Parsed, transport};
use super::reject::{HOPS, Trouble};
use crate::abi::{Address, V4, V6, proto};

/// A packet quoted in an ICMP error.
pub(super) struct QuotedIp<A> {
    pub(super) src: A,
    pub(super) dst: A,
    pub(super) protocol: u8,
    pub(super) length: usize,
}

/// An address family's header format.
pub trait IpVersion: Address {
    /// Ethertype, as it lies in memory.
    const ETHERTYPE: u16;
    /// Length of the header without options or extension headers.
    const HEADER: usize;

    /// Parses the header at `l3` into `out`.
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed;
    /// Writes both addresses, for IPv4 the header checksum (which `delta` changes), and takes `hops` off the hop limit.
    fn rewrite<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16, hops: u8) -> Option<()>;
    /// Length of the packet up to the end of the datagram, counted from the packet's first byte.
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32>;
    /// Turns the IP header around for an answer of `length` bytes, header included.
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()>;
    /// Stores an IP and ICMP header in front of the quoted packet, of which there are a header and `quoted` bytes, with
    /// this sum.
    fn store_error<P: Store>(
        pkt: &mut P,
        l3: usize,
        headers: &Headers<Self>,
        why: Trouble,
        quoted: usize,
        sum: u64,
    ) -> Option<()>;
    /// Reads the packet quoted in an ICMP error.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "for the data path's own use")]
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<QuotedIp<Self>>;
    /// Stores both addresses of a quoted packet. Returns what the header checksum's own change adds to a sum over the
    /// header.
    fn rewrite_quoted<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16>;
}

/// IPv6 extension headers passed over at most; a packet with more is left alone.
const MAX_EXTENSIONS: usize = 4;

/// Sum of `words` words from `offset`.
#[inline(always)]
pub(super) fn sum<P: Packet>(pkt: &P, offset: usize, words: usize) -> Option<u64> {
    let mut total = 0;
    let mut at = offset;
    for _ in 0..words {
        let [word] = pkt.words::<1>(at)?;
        total += u64::from(word);
        at += 4;
    }
    Some(total)
}

impl IpVersion for V4 {
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const HEADER: usize = 20;

    #[inline(always)]
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed {
        let Some([w0, w1, w2, src, dst]) = pkt.words::<5>(l3) else { return Parsed::Other };
        let [version, ..] = w0.to_ne_bytes();
        let ihl = usize::from(version & 0x0f) * 4;
        if version >> 4 != 4 || ihl < 20 {
            return Parsed::Other;
        }
        let [ttl, protocol, ..] = w2.to_ne_bytes();
        out.key.src = V4(src);
        out.key.dst = V4(dst);
        out.ttl = ttl;
        out.fragment_id = u32::from(first(w1));
        let frag = u16::from_be(second(w1));
        out.fragment = match (frag & 0x2000 != 0, frag & 0x1fff) {
            (false, 0) => Fragment::None,
            (true, 0) => Fragment::First,
            _ => Fragment::Later,
        };
        transport(pkt, protocol, l3 + ihl, out)
    }

    #[inline(always)]
    fn rewrite<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16, hops: u8) -> Option<()> {
        let [w2] = pkt.words::<1>(l3 + 8)?;
        let [ttl, protocol, ..] = w2.to_ne_bytes();
        let (old, new) = (half(ttl, protocol), half(ttl.wrapping_sub(hops), protocol));
        let delta = checksum::add(delta, checksum::delta(u64::from(old), u64::from(new)));
        pkt.store(l3 + 8, [join(new, checksum::update(second(w2), delta)), src.0, dst.0])
    }

    #[inline(always)]
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32> {
        Some(u32::try_from(l3).ok()? + u32::from(u16::from_be(pkt.half(l3 + 2)?)))
    }

    #[inline(always)]
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()> {
        let [w0, w1, w2] = pkt.words::<3>(l3)?;
        let [ttl, protocol, ..] = w2.to_ne_bytes();
        let length = u16::try_from(length).ok()?.to_be();
        let old = u64::from(second(w0)) + u64::from(second(w1)) + u64::from(half(ttl, protocol));
        let new = u64::from(length) + u64::from(half(0x40, 0)) + u64::from(half(HOPS, protocol));
        let check = checksum::update(second(w2), checksum::delta(old, new));
        pkt.store(
            l3,
            [
                join(first(w0), length),
                join(first(w1), half(0x40, 0)),
                join(half(HOPS, protocol), check),
                headers.key.dst.0,
                headers.key.src.0,
            ],
        )
    }

    #[inline(always)]
    fn store_error<P: Store>(
        pkt: &mut P,
        l3: usize,
        headers: &Headers<Self>,
        why: Trouble,
        quoted: usize,
        sum: u64,
    ) -> Option<()> {
        let (kind, rest) = (half(why.v4.0, why.v4.1), join(0, why.mtu.to_be()));
        let check = !checksum::fold(u64::from(kind) + u64::from(rest) + sum);
        let length = u8::try_from(20 + 8 + 20 + quoted).ok()?;
        let (w0, w1) = (word(0x45, 0xc0, 0, length), word(0, 0, 0x40, 0));
        let hops = half(HOPS, proto::ICMP);
        let (src, dst) = (headers.key.dst.0, headers.key.src.0);
        let ip = u64::from(w0) + u64::from(w1) + u64::from(hops) + u64::from(src) + u64::from(dst);
        pkt.store(l3, [w0, w1, join(hops, !checksum::fold(ip)), src, dst, join(kind, check), rest])
    }

    #[inline(always)]
    #[allow(private_interfaces, reason = "for the data path's own use")]
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<QuotedIp<Self>> {
        let [w0, w1, w2, src, dst] = pkt.words::<5>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        let [_, protocol, ..] = w2.to_ne_bytes();
        let length = usize::from(version & 0x0f) * 4;
        // A quoted later fragment has no ports.
        if version >> 4 != 4 || length < 20 || u16::from_be(second(w1)) & 0x1fff != 0 {
            return None;
        }
        Some(QuotedIp { src: V4(src), dst: V4(dst), protocol, length })
    }

    #[inline(always)]
    fn rewrite_quoted<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16> {
        let old = pkt.half(l3 + 10)?;
        let new = checksum::update(old, delta);
        pkt.store_half(l3 + 10, new)?;
        pkt.store(l3 + 12, [src.0, dst.0])?;
        Some(checksum::delta(u64::from(old), u64::from(new)))
    }
}

impl IpVersion for V6 {
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const HEADER: usize = 40;

    #[inline(always)]
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed {
        let Some([w0, w1, s0, s1, s2, s3, d0, d1, d2, d3]) = pkt.words::<10>(l3) else { return Parsed::Other };
        let [version, ..] = w0.to_ne_bytes();
        let [_, _, mut next, ttl] = w1.to_ne_bytes();
        if version >> 4 != 6 {
            return Parsed::Other;
        }
        out.key.src = V6([s0, s1, s2, s3]);
        out.key.dst = V6([d0, d1, d2, d3]);
        out.ttl = ttl;
        out.fragment = Fragment::None;
        out.fragment_id = 0;
        let mut l4 = l3 + 40;
        if next != proto::TCP && next != proto::UDP && next != proto::ICMPV6 {
            for _ in 0..MAX_EXTENSIONS {
                match next {
                    // Hop-by-hop, routing, destination options: multiples of 8 bytes.
                    0 | 43 | 60 => {
                        let Some([ext, _]) = pkt.words::<2>(l4) else { return Parsed::Other };
                        let [following, length, ..] = ext.to_ne_bytes();
                        next = following;
                        l4 += (usize::from(length) + 1) * 8;
                    }
                    44 => {
                        let Some([ext, id]) = pkt.words::<2>(l4) else { return Parsed::Other };
                        let [following, ..] = ext.to_ne_bytes();
                        let offset = u16::from_be(second(ext));
                        out.fragment = match (offset & 1 != 0, offset & 0xfff8) {
                            (false, 0) => Fragment::None,
                            (true, 0) => Fragment::First,
                            _ => Fragment::Later,
                        };
                        out.fragment_id = id;
                        next = following;
                        l4 += 8;
                        if out.fragment == Fragment::Later {
                            break;
                        }
                    }
                    _ => break,
                }
            }
        }
        transport(pkt, next, l4, out)
    }

    #[inline(always)]
    fn rewrite<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, _delta: u16, hops: u8) -> Option<()> {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.0, dst.0);
        let [w1] = pkt.words::<1>(l3 + 4)?;
        let [a, b, next, ttl] = w1.to_ne_bytes();
        let w1 = word(a, b, next, ttl.wrapping_sub(hops));
        pkt.store(l3 + 4, [w1, s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32> {
        Some(u32::try_from(l3).ok()? + 40 + u32::from(u16::from_be(pkt.half(l3 + 4)?)))
    }

    #[inline(always)]
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()> {
        let [w1] = pkt.words::<1>(l3 + 4)?;
        let [_, _, next, _] = w1.to_ne_bytes();
        let length = u16::try_from(length.checked_sub(40)?).ok()?.to_be();
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (headers.key.dst.0, headers.key.src.0);
        pkt.store(l3 + 4, [join(length, half(next, HOPS)), s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn store_error<P: Store>(
        pkt: &mut P,
        l3: usize,
        headers: &Headers<Self>,
        why: Trouble,
        quoted: usize,
        sum: u64,
    ) -> Option<()> {
        let (kind, rest) = (half(why.v6.0, why.v6.1), u32::from(why.mtu).to_be());
        let length = half(0, u8::try_from(8 + 40 + quoted).ok()?);
        let pseudo = headers.key.src.sum()
            + headers.key.dst.sum()
            + u64::from(length)
            + u64::from(half(0, proto::ICMPV6))
            + u64::from(kind)
            + u64::from(rest);
        let check = !checksum::fold(pseudo + sum);
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (headers.key.dst.0, headers.key.src.0);
        pkt.store(l3, [word(0x60, 0, 0, 0), join(length, half(proto::ICMPV6, HOPS)), s0, s1, s2, s3])?;
        pkt.store(l3 + 24, [d0, d1, d2, d3, join(kind, check), rest])
    }

    #[inline(always)]
    #[allow(private_interfaces, reason = "for the data path's own use")]
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<QuotedIp<Self>> {
        let [w0, w1, s0, s1, s2, s3, d0, d1, d2, d3] = pkt.words::<10>(l3)?;
        let [version, ..] = w0.to_ne_bytes();
        let [_, _, protocol, _] = w1.to_ne_bytes();
        if version >> 4 != 6 {
            return None;
        }
        Some(QuotedIp { src: V6([s0, s1, s2, s3]), dst: V6([d0, d1, d2, d3]), protocol, length: 40 })
    }

    #[inline(always)]
    fn rewrite_quoted<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, _delta: u16) -> Option<u16> {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.0, dst.0);
        pkt.store(l3 + 8, [s0, s1, s2, s3, d0, d1, d2, d3])?;
        Some(0)
    }
}
