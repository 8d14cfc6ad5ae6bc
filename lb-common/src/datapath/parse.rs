//! From bytes to a tuple. The only place that interprets a packet's network and transport headers.

use super::answer;
use super::checksum;
use super::env::Env;
use super::packet::{Packet, PacketMut, Store, word};
use crate::abi::{Address, Be16, FlowKey, FragmentKey, FragmentValue, V4, V6, proto};

/// Bits of the TCP flags byte (RFC 9293).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Acknowledgement field is significant.
    pub const ACK: u8 = 16;
}

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Whole datagram.
    None,
    /// First fragment: has the transport header.
    First,
    /// Later fragment: has no transport header.
    Later,
}

/// What the data path needs of a packet's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<A> {
    /// Addresses, ports, protocol. Ports are 0 in later fragments and in ICMP.
    pub key: FlowKey<A>,
    /// Identification of the datagram, if it is a fragment.
    pub fragment_id: u32,
    /// Offset of the transport header.
    pub l4: u16,
    /// Hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Fragment or not.
    pub fragment: Fragment,
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP or UDP (ports known, unless it is a later fragment).
    Flow,
    /// ICMP or ICMPv6, not fragmented.
    Icmp,
    /// Nothing that Sluice translates, or too short to tell: left alone.
    Other,
}

/// An address family's header format.
pub trait IpVersion: Address {
    /// Ethertype, as it lies in memory.
    const ETHERTYPE: u16;
    /// Length of the header without options or extension headers.
    const HEADER: usize;
    /// Offset of the source address in the header; the destination follows it.
    const ADDRESSES: usize;
    /// Offset of the TTL or hop limit.
    const TTL: usize;

    /// Parses the header at `l3` into `out`.
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed;

    /// Writes both addresses and, for IPv4, the header checksum.
    fn write_addresses<P: PacketMut>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<()>;

    /// Takes one off the TTL or hop limit. False: it was spent, nothing was written.
    fn decrement_ttl<P: PacketMut>(pkt: &mut P, l3: usize) -> bool;

    /// Length of the packet up to the end of the datagram, counted from the packet's first byte.
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32>;

    /// Turns the IP header around for an answer of `length` bytes, header included.
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()>;

    /// Stores an IP and ICMP header that say "port unreachable" in front of the quoted datagram.
    fn store_unreachable<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>) -> Option<()>;

    /// Addresses, protocol and header length of a packet quoted in an ICMP error.
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<(Self, Self, u8, usize)>;

    /// Stores both addresses and nothing else.
    fn store_pair<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self) -> Option<()>;

    /// Stores both addresses and, for IPv4, the header checksum. Returns what the checksum field's own change adds to
    /// a sum over the header.
    fn store_addresses<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16>;
}

/// IPv6 extension headers passed over at most; a packet with more is left alone.
const MAX_EXTENSIONS: usize = 4;

impl IpVersion for V4 {
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const HEADER: usize = 20;
    const ADDRESSES: usize = 12;
    const TTL: usize = 8;

    #[inline(always)]
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed {
        let Some(ip) = pkt.bytes::<20>(l3) else { return Parsed::Other };
        let ihl = usize::from(ip[0] & 0x0f) * 4;
        if ip[0] >> 4 != 4 || ihl < 20 {
            return Parsed::Other;
        }
        let l4 = l3 + ihl;
        out.key.src = V4(u32::from_ne_bytes([ip[12], ip[13], ip[14], ip[15]]));
        out.key.dst = V4(u32::from_ne_bytes([ip[16], ip[17], ip[18], ip[19]]));
        out.ttl = ip[8];
        out.fragment_id = u32::from(word(ip[4], ip[5]));
        let frag = u16::from_be(word(ip[6], ip[7]));
        out.fragment = match (frag & 0x2000 != 0, frag & 0x1fff) {
            (false, 0) => Fragment::None,
            (true, 0) => Fragment::First,
            _ => Fragment::Later,
        };
        transport(pkt, ip[9], l4, out)
    }

    #[inline(always)]
    fn write_addresses<P: PacketMut>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<()> {
        let ip = pkt.bytes_mut::<20>(l3)?;
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
        let sum = checksum::update(word(ip[10], ip[11]), delta);
        [ip[10], ip[11]] = sum.to_ne_bytes();
        [ip[12], ip[13], ip[14], ip[15]] = [s0, s1, s2, s3];
        [ip[16], ip[17], ip[18], ip[19]] = [d0, d1, d2, d3];
        Some(())
    }

    #[inline(always)]
    fn decrement_ttl<P: PacketMut>(pkt: &mut P, l3: usize) -> bool {
        let Some(ip) = pkt.bytes_mut::<20>(l3) else { return false };
        if ip[8] <= 1 {
            return false;
        }
        let old = word(ip[8], ip[9]);
        ip[8] -= 1;
        let delta = checksum::delta(u64::from(old), u64::from(word(ip[8], ip[9])));
        [ip[10], ip[11]] = checksum::update(word(ip[10], ip[11]), delta).to_ne_bytes();
        true
    }

    #[inline(always)]
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32> {
        let ip = pkt.bytes::<4>(l3)?;
        Some(u32::try_from(l3).ok()? + u32::from(u16::from_be(word(ip[2], ip[3]))))
    }

    #[inline(always)]
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()> {
        answer::turn_around_v4(pkt, l3, headers, length)
    }

    #[inline(always)]
    fn store_unreachable<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>) -> Option<()> {
        answer::store_unreachable_v4(pkt, l3, headers)
    }

    #[inline(always)]
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<(Self, Self, u8, usize)> {
        let ip = pkt.bytes::<20>(l3)?;
        let ihl = usize::from(ip[0] & 0x0f) * 4;
        // A quoted later fragment has no ports.
        if ip[0] >> 4 != 4 || ihl < 20 || u16::from_be(word(ip[6], ip[7])) & 0x1fff != 0 {
            return None;
        }
        Some((
            V4(u32::from_ne_bytes([ip[12], ip[13], ip[14], ip[15]])),
            V4(u32::from_ne_bytes([ip[16], ip[17], ip[18], ip[19]])),
            ip[9],
            ihl,
        ))
    }

    #[inline(always)]
    fn store_pair<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self) -> Option<()> {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
        pkt.store(l3 + 12, [s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline(always)]
    fn store_addresses<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, delta: u16) -> Option<u16> {
        let &[a, b] = pkt.bytes::<2>(l3 + 10)?;
        let (old, new) = (word(a, b), checksum::update(word(a, b), delta));
        Self::store_pair(pkt, l3, src, dst)?;
        pkt.store(l3 + 10, new.to_ne_bytes())?;
        Some(checksum::delta(u64::from(old), u64::from(new)))
    }
}

impl IpVersion for V6 {
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const HEADER: usize = 40;
    const ADDRESSES: usize = 8;
    const TTL: usize = 7;

    #[inline(always)]
    fn parse<P: Packet>(pkt: &P, l3: usize, out: &mut Headers<Self>) -> Parsed {
        let Some(ip) = pkt.bytes::<40>(l3) else { return Parsed::Other };
        if ip[0] >> 4 != 6 {
            return Parsed::Other;
        }
        let w = |i: usize| -> u32 {
            match ip.get(i..i + 4) {
                Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
                _ => 0,
            }
        };
        out.key.src = V6([w(8), w(12), w(16), w(20)]);
        out.key.dst = V6([w(24), w(28), w(32), w(36)]);
        out.ttl = ip[7];
        out.fragment = Fragment::None;
        out.fragment_id = 0;
        let mut next = ip[6];
        let mut l4 = l3 + 40;
        if next != proto::TCP && next != proto::UDP && next != proto::ICMPV6 {
            for _ in 0..MAX_EXTENSIONS {
                match next {
                    // Hop-by-hop, routing, destination options (RFC 8200).
                    0 | 43 | 60 => {
                        let Some(ext) = pkt.bytes::<2>(l4) else { return Parsed::Other };
                        next = ext[0];
                        l4 += (usize::from(ext[1]) + 1) * 8;
                    }
                    44 => {
                        let Some(ext) = pkt.bytes::<8>(l4) else { return Parsed::Other };
                        let offset = u16::from_be(word(ext[2], ext[3]));
                        out.fragment = match (offset & 1 != 0, offset & 0xfff8) {
                            (false, 0) => Fragment::None,
                            (true, 0) => Fragment::First,
                            _ => Fragment::Later,
                        };
                        out.fragment_id = u32::from_ne_bytes([ext[4], ext[5], ext[6], ext[7]]);
                        next = ext[0];
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
    fn write_addresses<P: PacketMut>(pkt: &mut P, l3: usize, src: Self, dst: Self, _delta: u16) -> Option<()> {
        let out = pkt.bytes_mut::<32>(l3 + 8)?;
        let [a, b, c, d] = src.0;
        let [e, f, g, h] = dst.0;
        for (to, from) in out.chunks_exact_mut(4).zip([a, b, c, d, e, f, g, h]) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        Some(())
    }

    #[inline(always)]
    fn decrement_ttl<P: PacketMut>(pkt: &mut P, l3: usize) -> bool {
        let Some(ip) = pkt.bytes_mut::<40>(l3) else { return false };
        if ip[7] <= 1 {
            return false;
        }
        ip[7] -= 1;
        true
    }

    #[inline(always)]
    fn datagram_length<P: Packet>(pkt: &P, l3: usize) -> Option<u32> {
        let ip = pkt.bytes::<6>(l3)?;
        Some(u32::try_from(l3).ok()? + 40 + u32::from(u16::from_be(word(ip[4], ip[5]))))
    }

    #[inline(always)]
    fn turn_around<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>, length: usize) -> Option<()> {
        answer::turn_around_v6(pkt, l3, headers, length)
    }

    #[inline(always)]
    fn store_unreachable<P: Store>(pkt: &mut P, l3: usize, headers: &Headers<Self>) -> Option<()> {
        answer::store_unreachable_v6(pkt, l3, headers)
    }

    #[inline(always)]
    fn quoted<P: Packet>(pkt: &P, l3: usize) -> Option<(Self, Self, u8, usize)> {
        let ip = pkt.bytes::<40>(l3)?;
        if ip[0] >> 4 != 6 {
            return None;
        }
        let w = |i: usize| -> u32 {
            match ip.get(i..i + 4) {
                Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
                _ => 0,
            }
        };
        Some((V6([w(8), w(12), w(16), w(20)]), V6([w(24), w(28), w(32), w(36)]), ip[6], 40))
    }

    #[inline(always)]
    fn store_pair<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self) -> Option<()> {
        pkt.store(l3 + 8, src.octets())?;
        pkt.store(l3 + 24, dst.octets())
    }

    #[inline(always)]
    fn store_addresses<P: Store>(pkt: &mut P, l3: usize, src: Self, dst: Self, _delta: u16) -> Option<u16> {
        Self::store_pair(pkt, l3, src, dst)?;
        Some(0)
    }
}

#[inline(always)]
fn transport<A: Address, P: Packet>(pkt: &P, protocol: u8, l4: usize, out: &mut Headers<A>) -> Parsed {
    let Ok(l4_offset) = u16::try_from(l4) else { return Parsed::Other };
    out.l4 = l4_offset;
    out.tcp_flags = 0;
    out.key.sport = Be16(0);
    out.key.dport = Be16(0);
    out.key.proto = protocol;
    out.key.pad = [0; 3];
    if protocol == proto::TCP {
        if out.fragment != Fragment::Later {
            let Some(tcp) = pkt.bytes::<20>(l4) else { return Parsed::Other };
            out.key.sport = Be16(word(tcp[0], tcp[1]));
            out.key.dport = Be16(word(tcp[2], tcp[3]));
            out.tcp_flags = tcp[13];
        }
        Parsed::Flow
    } else if protocol == proto::UDP {
        if out.fragment != Fragment::Later {
            let Some(udp) = pkt.bytes::<8>(l4) else { return Parsed::Other };
            out.key.sport = Be16(word(udp[0], udp[1]));
            out.key.dport = Be16(word(udp[2], udp[3]));
        }
        Parsed::Flow
    } else if (protocol == proto::ICMP && !A::IS_V6) || (protocol == proto::ICMPV6 && A::IS_V6) {
        if out.fragment == Fragment::None { Parsed::Icmp } else { Parsed::Other }
    } else {
        Parsed::Other
    }
}

/// Parses the packet whose network header begins at `l3` into `out`.
#[inline(always)]
pub fn parse<A: IpVersion, P: Packet>(pkt: &P, l3: usize, out: &mut Headers<A>) -> Parsed {
    A::parse(pkt, l3, out)
}

impl<A: Address> Headers<A> {
    /// Headers of nothing, to parse into.
    #[inline(always)]
    pub fn empty() -> Self {
        Self {
            key: FlowKey { src: A::ZERO, dst: A::ZERO, sport: Be16(0), dport: Be16(0), proto: 0, pad: [0; 3] },
            fragment_id: 0,
            l4: 0,
            ttl: 0,
            tcp_flags: 0,
            fragment: Fragment::None,
        }
    }
}

#[inline(always)]
fn fragment_key<A: Address>(headers: &Headers<A>) -> FragmentKey<A> {
    FragmentKey {
        src: headers.key.src,
        dst: headers.key.dst,
        id: headers.fragment_id,
        proto: u32::from(headers.key.proto),
    }
}

/// Notes the ports of a first fragment, for the fragments that follow it.
#[inline(always)]
pub fn record_fragment<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) {
    env.set_fragment(&fragment_key(headers), &FragmentValue { sport: headers.key.sport, dport: headers.key.dport });
}

/// Completes a later fragment's ports from the first one. False: the first was not seen.
#[inline(always)]
pub fn later_fragment<A: Address, E: Env<A>>(env: &E, headers: &mut Headers<A>) -> bool {
    let Some(ports) = env.fragment(&fragment_key(headers)) else { return false };
    headers.key.sport = ports.sport;
    headers.key.dport = ports.dport;
    true
}
