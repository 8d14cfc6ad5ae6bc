//! Packets described by their fields, so that the expected packet is written as "the same, but".

use super::family::{Family, HOST_MAC, PEER_MAC};
use crate::abi::proto;
use crate::wire::tcp::flag as tcp_flag;

/// An IPv6 extension header of eight bytes, by its number (RFC 8200).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options.
    HopByHop,
    /// Routing.
    Routing,
    /// Destination options.
    Destination,
}

/// A transport header with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the headers")]
pub enum L4 {
    /// TCP without options.
    Tcp { sport: u16, dport: u16, seq: u32, ack: u32, flags: u8, window: u16, payload: Vec<u8> },
    /// UDP; `summed` false: checksum 0.
    Udp { sport: u16, dport: u16, summed: bool, payload: Vec<u8> },
    /// ICMP or ICMPv6.
    Icmp { kind: u8, code: u8, rest: u32, body: Vec<u8> },
    /// Anything else, as bytes.
    Raw { proto: u8, bytes: Vec<u8> },
}

/// A packet from the Ethernet header on. Checksums are computed when it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkt<A> {
    /// Ethernet destination and source.
    pub macs: [[u8; 6]; 2],
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Hop limit.
    pub ttl: u8,
    /// IPv4: type of service; IPv6: traffic class.
    pub tos: u8,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 "don't fragment".
    pub df: bool,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    /// Transport header and payload.
    pub l4: L4,
}

impl<A: Family> Pkt<A> {
    fn new(src: A, dst: A, l4: L4) -> Self {
        Self {
            macs: [HOST_MAC, PEER_MAC],
            src,
            dst,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            df: true,
            options: Vec::new(),
            extensions: Vec::new(),
            l4,
        }
    }

    /// A TCP segment with these flags and no payload.
    #[must_use]
    pub fn tcp(src: (A, u16), dst: (A, u16), flags: u8) -> Self {
        let ack = if flags & tcp_flag::ACK == 0 { 0 } else { 0x0102_0305 };
        let l4 = L4::Tcp { sport: src.1, dport: dst.1, seq: 0x0102_0304, ack, flags, window: 0xfaf0, payload: vec![] };
        Self::new(src.0, dst.0, l4)
    }

    /// A SYN.
    #[must_use]
    pub fn syn(src: (A, u16), dst: (A, u16)) -> Self {
        Self::tcp(src, dst, tcp_flag::SYN)
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(src: (A, u16), dst: (A, u16)) -> Self {
        let l4 = L4::Udp { sport: src.1, dport: dst.1, summed: true, payload: b"who is there?".to_vec() };
        Self::new(src.0, dst.0, l4)
    }

    /// A first packet of either protocol: a SYN or a datagram.
    #[must_use]
    pub fn first(proto: u8, src: (A, u16), dst: (A, u16)) -> Self {
        if proto == proto::TCP { Self::syn(src, dst) } else { Self::udp(src, dst) }
    }

    /// The first reply of either protocol: a SYN-ACK or a datagram.
    #[must_use]
    pub fn reply(proto: u8, src: (A, u16), dst: (A, u16)) -> Self {
        if proto == proto::TCP {
            Self::tcp(src, dst, tcp_flag::SYN | tcp_flag::ACK)
        } else {
            Self::udp(src, dst).payload(b"me")
        }
    }

    /// A client's answer to the first reply of either protocol: an ACK or a datagram.
    #[must_use]
    pub fn answer(proto: u8, src: (A, u16), dst: (A, u16)) -> Self {
        if proto == proto::TCP { Self::tcp(src, dst, tcp_flag::ACK) } else { Self::udp(src, dst) }
    }

    /// A packet from the middle of a flow of either protocol.
    #[must_use]
    pub fn data(proto: u8, src: (A, u16), dst: (A, u16)) -> Self {
        if proto == proto::TCP {
            Self::tcp(src, dst, tcp_flag::ACK).payload(b"hello, Service")
        } else {
            Self::udp(src, dst)
        }
    }

    /// An ICMP error about `quoted`, of which the IP header and `quote` more bytes are quoted.
    #[must_use]
    pub fn icmp_error(src: A, dst: A, kind: (u8, u8), rest: u32, quoted: &Self, quote: usize) -> Self {
        let mut body = quoted.ip_packet();
        body.truncate(quoted.header_length() + quote);
        Self::new(src, dst, L4::Icmp { kind: kind.0, code: kind.1, rest, body })
    }

    /// A packet of another protocol.
    #[must_use]
    pub fn raw(src: A, dst: A, proto: u8, bytes: &[u8]) -> Self {
        Self::new(src, dst, L4::Raw { proto, bytes: bytes.to_vec() })
    }

    /// With another source.
    #[must_use]
    pub fn from(mut self, addr: A, port: u16) -> Self {
        self.src = addr;
        match &mut self.l4 {
            L4::Tcp { sport, .. } | L4::Udp { sport, .. } => *sport = port,
            L4::Icmp { .. } | L4::Raw { .. } => {}
        }
        self
    }

    /// With another destination.
    #[must_use]
    pub fn to(mut self, addr: A, port: u16) -> Self {
        self.dst = addr;
        match &mut self.l4 {
            L4::Tcp { dport, .. } | L4::Udp { dport, .. } => *dport = port,
            L4::Icmp { .. } | L4::Raw { .. } => {}
        }
        self
    }

    /// With another payload.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        match &mut self.l4 {
            L4::Tcp { payload, .. } | L4::Udp { payload, .. } => *payload = bytes.to_vec(),
            L4::Icmp { body, .. } => *body = bytes.to_vec(),
            L4::Raw { bytes: raw, .. } => *raw = bytes.to_vec(),
        }
        self
    }

    /// With another hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// One hop further on.
    #[must_use]
    pub fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// With another sequence number.
    #[must_use]
    pub fn sequence(mut self, number: u32) -> Self {
        if let L4::Tcp { seq, .. } = &mut self.l4 {
            *seq = number;
        }
        self
    }

    /// With another acknowledgment number.
    #[must_use]
    pub fn acknowledging(mut self, number: u32) -> Self {
        if let L4::Tcp { ack, .. } = &mut self.l4 {
            *ack = number;
        }
        self
    }

    /// A datagram without a checksum.
    #[must_use]
    pub fn unsummed(mut self) -> Self {
        if let L4::Udp { summed, .. } = &mut self.l4 {
            *summed = false;
        }
        self
    }

    /// With IPv4 options or, for IPv6, extension headers.
    #[must_use]
    pub fn long_header(mut self) -> Self {
        if A::IS_V6 {
            self.extensions = vec![Extension::HopByHop, Extension::Routing, Extension::Destination];
        } else {
            self.options = vec![7, 7, 4, 0, 0, 0, 0, 0]; // record route, one empty slot, end
        }
        self
    }

    /// With Ethernet addresses swapped, as an answer has them.
    #[must_use]
    pub fn back(mut self) -> Self {
        self.macs.swap(0, 1);
        self
    }

    /// The protocol number.
    pub fn proto(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => proto::TCP,
            L4::Udp { .. } => proto::UDP,
            L4::Icmp { .. } if A::IS_V6 => proto::ICMPV6,
            L4::Icmp { .. } => proto::ICMP,
            L4::Raw { proto, .. } => proto,
        }
    }

    /// Length of the IP header with options or extension headers.
    pub fn header_length(&self) -> usize {
        A::HEADER + self.options.len() + 8 * self.extensions.len()
    }
}
