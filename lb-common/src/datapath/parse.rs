//! From bytes to a tuple. The only place that interprets a packet's network and transport headers.

use super::env::Env;
use super::ip::IpVersion;
use super::packet::{Packet, first, second};
use crate::abi::{Address, Be16, FlowKey, FragmentKey, FragmentValue, proto};

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
    /// Offset of the transport header. A byte: a packet whose headers reach further is left alone, and the kernel's
    /// verifier sees the bound in the type.
    pub l4: u8,
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

#[inline(always)]
pub(super) fn transport<A: Address, P: Packet>(pkt: &P, protocol: u8, l4: usize, out: &mut Headers<A>) -> Parsed {
    let Ok(l4_offset) = u8::try_from(l4) else { return Parsed::Other };
    out.l4 = l4_offset;
    out.key.proto = protocol;
    // One store of both ports for all protocols: the look-up's hash reads them as one word.
    let mut both = 0;
    let mut tcp_flags = 0;
    let parsed = if protocol == proto::TCP {
        if out.fragment != Fragment::Later {
            let Some([ports, _, _, flags, _]) = pkt.words::<5>(l4) else { return Parsed::Other };
            both = ports;
            [_, tcp_flags, _, _] = flags.to_ne_bytes();
        }
        Parsed::Flow
    } else if protocol == proto::UDP {
        if out.fragment != Fragment::Later {
            let Some([ports, _]) = pkt.words::<2>(l4) else { return Parsed::Other };
            both = ports;
        }
        Parsed::Flow
    } else if (protocol == proto::ICMP && !A::IS_V6) || (protocol == proto::ICMPV6 && A::IS_V6) {
        if out.fragment == Fragment::None { Parsed::Icmp } else { Parsed::Other }
    } else {
        Parsed::Other
    };
    out.tcp_flags = tcp_flags;
    out.key.sport = Be16(first(both));
    out.key.dport = Be16(second(both));
    parsed
}

/// Parses the packet whose network header begins at `l3` into `out`.
#[inline(always)]
pub fn parse<A: IpVersion, P: Packet>(pkt: &P, l3: usize, out: &mut Headers<A>) -> Parsed {
    A::parse(pkt, l3, out)
}

impl<A: Address> Headers<A> {
    /// Whether the packet opens a TCP connection: a SYN that acknowledges nothing.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
    }

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

/// Notes a first fragment's ports for those that follow it, or completes a later one's from the first. False: the first
/// was not seen.
#[inline(always)]
pub fn fragment<A: Address, E: Env<A>>(env: &E, headers: &mut Headers<A>) -> bool {
    let key = fragment_key(headers);
    if headers.fragment == Fragment::Later {
        let Some(FragmentValue { sport, dport }) = env.fragment(&key) else { return false };
        (headers.key.sport, headers.key.dport) = (sport, dport);
    } else {
        env.set_fragment(&key, &FragmentValue { sport: headers.key.sport, dport: headers.key.dport });
    }
    true
}
