//! From bytes to a tuple: what the data path needs of a packet's network and transport headers.

use super::transport::{self, Segment};
use crate::abi::{Address, Be16, FlowKey, proto};
use crate::wire::bytes::{hi, lo};
use crate::wire::{Fragment, IpHeader, IpVersion, Read, icmp};

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
    pub hop_limit: u8,
    /// What the transport header says of a connection's life: TCP's flags, SCTP's chunk type, else 0.
    pub flags: u8,
    /// Fragment or not.
    pub fragment: Fragment,
    /// Length from the network header on, as that says.
    pub datagram: u16,
    /// TCP: sequence number of the first byte.
    pub seq: u32,
    /// TCP: sequence number behind the last byte.
    pub end: u32,
    /// TCP: acknowledgement number.
    pub ack: u32,
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A transport that Services have (ports known, unless it is a later fragment).
    Flow,
    /// ICMP or ICMPv6, not fragmented.
    Icmp,
    /// Nothing that Sluice translates, or too short to tell: left alone.
    Other,
    /// Needs a closer look: [`Headers::parse`].
    Unusual,
}

impl<A: IpVersion> Headers<A> {
    /// Headers of nothing, to parse into.
    #[inline(always)]
    pub fn empty() -> Self {
        Self {
            key: FlowKey { src: A::ZERO, dst: A::ZERO, sport: Be16(0), dport: Be16(0), proto: 0, pad: [0; 3] },
            fragment_id: 0,
            l4: 0,
            hop_limit: 0,
            flags: 0,
            fragment: Fragment::None,
            datagram: 0,
            seq: 0,
            end: 0,
            ack: 0,
        }
    }

    /// Parses an ordinary packet at fixed offsets: no options, no fragment, no ICMP error, all headers readable.
    #[inline(always)]
    pub fn parse_plain<P: Read>(&mut self, pkt: &P, l3: usize) -> Parsed {
        let Some(ip) = A::plain(pkt, l3) else { return Parsed::Unusual };
        if !transport::is_served(ip.protocol) {
            return Self::other_protocol(pkt, &ip);
        }
        if self.transport(pkt, l3, &ip) == Parsed::Flow { Parsed::Flow } else { Parsed::Unusual }
    }

    /// An ordinary packet of another protocol: ICMP errors may be about a flow, and echo requests for a Service.
    #[inline(always)]
    fn other_protocol<P: Read>(pkt: &P, ip: &IpHeader<A>) -> Parsed {
        if ip.protocol != A::ICMP {
            return Parsed::Other;
        }
        let Some(kind) = pkt.u16_at(ip.payload) else { return Parsed::Unusual };
        let [kind, _] = kind.to_ne_bytes();
        let served = if A::IS_V6 { icmp::may_be_served::<true>(kind) } else { icmp::may_be_served::<false>(kind) };
        if served { Parsed::Unusual } else { Parsed::Other }
    }

    /// Parses any packet whose network header begins at `l3`.
    #[inline(always)]
    pub fn parse<P: Read>(&mut self, pkt: &P, l3: usize) -> Parsed {
        let Some(ip) = A::parse(pkt, l3) else { return Parsed::Other };
        self.fragment = ip.fragment;
        self.fragment_id = ip.fragment_id;
        self.transport(pkt, l3, &ip)
    }

    #[inline(always)]
    fn transport<P: Read>(&mut self, pkt: &P, l3: usize, ip: &IpHeader<A>) -> Parsed {
        let (Ok(l4), Ok(own)) = (u8::try_from(ip.payload), u16::try_from(ip.payload - l3)) else {
            return Parsed::Other;
        };
        self.datagram = ip.length.saturating_add(own);
        self.key.src = ip.src;
        self.key.dst = ip.dst;
        self.hop_limit = ip.hop_limit;
        self.l4 = l4;
        self.key.proto = ip.protocol;
        // One store of both ports for all protocols: the look-up's hash reads them as one word.
        let mut segment = Segment::default();
        let parsed = if ip.fragment == Fragment::Later {
            // Nothing behind its header is looked at, so the header has to be there by itself. In IPv6 only the first
            // fragment says what follows (RFC 8200 section 4.5).
            if pkt.u16_at(ip.payload - 2).is_none() || !(A::IS_V6 || transport::is_served(ip.protocol)) {
                return Parsed::Other;
            }
            Parsed::Flow
        } else if transport::is_served(ip.protocol) {
            let Some(read) = transport::read(pkt, ip.protocol, ip.payload) else { return Parsed::Other };
            segment = read;
            Parsed::Flow
        } else if ip.protocol == A::ICMP && ip.fragment == Fragment::None {
            Parsed::Icmp
        } else {
            Parsed::Other
        };
        self.flags = segment.flags;
        self.key.sport = Be16(hi(segment.ports));
        self.key.dport = Be16(lo(segment.ports));
        self.seq = segment.seq;
        self.ack = segment.ack;
        self.end = transport::end(&segment, ip.length);
        parsed
    }

    /// Whether a packet that the first stage has left to the second may still be an ordinary one of a flow: it has options
    /// or is a fragment, or is to be answered instead of delivered. What may begin a flow has been looked for in vain.
    #[inline(always)]
    pub(super) fn may_be_of_flow(&self, l3: usize) -> bool {
        let plain = self.fragment == Fragment::None && usize::from(self.l4) == l3 + A::HEADER;
        !plain || !self.may_open() || self.hop_limit <= 1
    }
}

impl<A: Address> Headers<A> {
    /// Whether the packet opens a connection: for TCP a SYN that acknowledges nothing. Never true of UDP, which has no
    /// handshake.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        transport::opens(self.key.proto, self.flags)
    }

    /// Whether the packet answers the first one of a connection: a SYN-ACK.
    #[inline(always)]
    pub(super) fn answers_opening(&self) -> bool {
        transport::answers_opening(self.key.proto, self.flags)
    }

    /// Whether a reply begins its connection, or aborts it.
    #[inline(always)]
    pub(super) fn is_rare_reply(&self) -> bool {
        transport::is_rare_reply(self.key.proto, self.flags)
    }

    /// Whether the transport's connections begin with a handshake.
    #[inline(always)]
    pub(super) fn has_handshake(&self) -> bool {
        transport::has_handshake(self.key.proto)
    }

    /// Whether the packet may be the first one of its flow.
    #[inline(always)]
    pub(super) fn may_open(&self) -> bool {
        self.opens() || !self.has_handshake()
    }

    /// Whether the packet closes its direction, or aborts the connection.
    #[inline(always)]
    pub(super) fn closes(&self) -> bool {
        transport::state_bits(self.key.proto, self.flags) != 0
    }

    /// Whether the packet aborts a connection.
    #[inline(always)]
    pub(super) fn aborts(&self) -> bool {
        transport::state_bits(self.key.proto, self.flags) & crate::abi::flow_state::RST != 0
    }
}

/// Kept out of the way of `proto::TCP` comparisons: the only protocols that have ports are those of [`transport`].
const _: () = assert!(transport::is_served(proto::TCP) && transport::is_served(proto::UDP));
