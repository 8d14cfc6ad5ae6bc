//! Encodes packets; checksums are always computed over everything (RFC 1071), never updated.

use super::family::Family;
use super::packet::{Extension, L4, Pkt};
use crate::abi::proto;

/// The Internet checksum of all parts, each padded to an even length.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header<A: Family>(src: A, dst: A, proto: u8, length: usize) -> Vec<u8> {
    let mut bytes = [src.bytes(), dst.bytes()].concat();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, proto]);
    bytes
}

impl L4 {
    fn encode<A: Family>(&self, src: A, dst: A) -> Vec<u8> {
        let mut out = Vec::new();
        let (field, proto) = match self {
            Self::Tcp { sport, dport, seq, ack, flags, window, payload } => {
                out.extend(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend(seq.to_be_bytes());
                out.extend(ack.to_be_bytes());
                out.extend([0x50, *flags]);
                out.extend(window.to_be_bytes());
                out.extend([0; 4]);
                out.extend(payload);
                (16, proto::TCP)
            }
            Self::Udp { sport, dport, payload, .. } => {
                out.extend(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend((8 + payload.len() as u16).to_be_bytes());
                out.extend([0; 2]);
                out.extend(payload);
                (6, proto::UDP)
            }
            Self::Icmp { kind, code, rest, body } => {
                out.extend([*kind, *code, 0, 0]);
                out.extend(rest.to_be_bytes());
                out.extend(body);
                (2, if A::IS_V6 { proto::ICMPV6 } else { proto::ICMP })
            }
            Self::Raw { bytes, .. } => return bytes.clone(),
        };
        let bare = proto == proto::ICMP;
        let pseudo = if bare { Vec::new() } else { pseudo_header(src, dst, proto, out.len()) };
        let mut sum = internet_checksum(&[&pseudo, &out]);
        match self {
            Self::Udp { summed: false, .. } => sum = 0,
            Self::Udp { .. } if sum == 0 => sum = 0xffff,
            _ => {}
        }
        out[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy)]
struct Piece {
    offset: u16,
    more: bool,
}

impl<A: Family> Pkt<A> {
    /// The whole packet.
    pub fn bytes(&self) -> Vec<u8> {
        self.frame(&self.l4.encode(self.src, self.dst), None)
    }

    /// The packet without its Ethernet header.
    pub fn ip_packet(&self) -> Vec<u8> {
        self.bytes().split_off(14)
    }

    /// The packet in fragments of `size` bytes of transport header and payload.
    pub fn pieces(&self, size: usize) -> Vec<Vec<u8>> {
        assert!(size.is_multiple_of(8), "a fragment's length is a multiple of 8");
        let l4 = self.l4.encode(self.src, self.dst);
        let piece = |(index, part): (usize, &[u8])| {
            let offset = index * size;
            self.frame(part, Some(Piece { offset: offset as u16, more: offset + part.len() < l4.len() }))
        };
        l4.chunks(size).enumerate().map(piece).collect()
    }

    /// The packet in two fragments, the first with `first` bytes of transport header and payload.
    pub fn fragments(&self, first: usize) -> [Vec<u8>; 2] {
        assert!(first.is_multiple_of(8), "a fragment's length is a multiple of 8");
        let l4 = self.l4.encode(self.src, self.dst);
        [
            self.frame(&l4[..first], Some(Piece { offset: 0, more: true })),
            self.frame(&l4[first..], Some(Piece { offset: first as u16, more: false })),
        ]
    }

    /// The fragment with these bytes of transport header and payload.
    pub fn piece(&self, range: core::ops::Range<usize>) -> Vec<u8> {
        let l4 = self.l4.encode(self.src, self.dst);
        self.frame(&l4[range.clone()], Some(Piece { offset: range.start as u16, more: range.end < l4.len() }))
    }

    fn frame(&self, l4: &[u8], piece: Option<Piece>) -> Vec<u8> {
        let mut out = self.macs.concat();
        out.extend(if A::IS_V6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        out.extend(if A::IS_V6 { self.v6_header(l4.len(), piece) } else { self.v4_header(l4.len(), piece) });
        out.extend(l4);
        out
    }

    fn v4_header(&self, payload: usize, piece: Option<Piece>) -> Vec<u8> {
        let length = 20 + self.options.len();
        let flags = match piece {
            Some(Piece { offset, more }) => (u16::from(more) << 13) | (offset / 8),
            None => u16::from(self.df) << 14,
        };
        let mut out = vec![0x40 | (length / 4) as u8, self.tos];
        out.extend(((length + payload) as u16).to_be_bytes());
        out.extend(self.id.to_be_bytes());
        out.extend(flags.to_be_bytes());
        out.extend([self.ttl, self.proto(), 0, 0]);
        out.extend(self.src.bytes());
        out.extend(self.dst.bytes());
        out.extend(&self.options);
        let sum = internet_checksum(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn v6_header(&self, payload: usize, piece: Option<Piece>) -> Vec<u8> {
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        for extension in &self.extensions {
            chain.push(match extension {
                Extension::HopByHop => (0, vec![0, 1, 4, 0, 0, 0, 0]),   // PadN
                Extension::Routing => (43, vec![0, 253, 0, 0, 0, 0, 0]), // no segments left
                Extension::Destination => (60, vec![0, 1, 4, 0, 0, 0, 0]),
            });
        }
        if let Some(Piece { offset, more }) = piece {
            let [a, b] = (offset | u16::from(more)).to_be_bytes();
            let [c, d] = self.id.to_be_bytes();
            chain.push((44, vec![0, a, b, 0, 0, c, d]));
        }
        let next = chain.first().map_or(self.proto(), |(number, _)| *number);
        let mut out = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        out.extend(((payload + 8 * chain.len()) as u16).to_be_bytes());
        out.extend([next, self.ttl]);
        out.extend(self.src.bytes());
        out.extend(self.dst.bytes());
        for (i, (_, rest)) in chain.iter().enumerate() {
            out.push(chain.get(i + 1).map_or(self.proto(), |(number, _)| *number));
            out.extend(rest);
        }
        out
    }
}

/// Whether all checksums of a frame are right by full recompute: IPv4 header and, unless it is a fragment, the
/// transport's. UDP over IPv4 without a checksum counts as right.
pub fn checksums_hold(frame: &[u8]) -> bool {
    let ip = &frame[14..];
    let (header, protocol, pseudo) = if ip[0] >> 4 == 4 {
        let header = usize::from(ip[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if internet_checksum(&[&ip[..header]]) != 0 || total != ip.len() {
            return false;
        }
        let mut pseudo = ip[12..20].to_vec();
        pseudo.extend(((total - header) as u32).to_be_bytes());
        (header, ip[9], pseudo)
    } else {
        let (mut next, mut header) = (ip[6], 40);
        while [0, 43, 60].contains(&next) {
            next = ip[header];
            header += 8 * (usize::from(ip[header + 1]) + 1);
        }
        let mut pseudo = ip[8..40].to_vec();
        pseudo.extend(((ip.len() - header) as u32).to_be_bytes());
        (header, next, pseudo)
    };
    let l4 = &ip[header..];
    let pseudo = [pseudo, vec![0, 0, 0, protocol]].concat();
    match protocol {
        proto::ICMP => internet_checksum(&[l4]) == 0,
        proto::UDP if ip[0] >> 4 == 4 && l4[6..8] == [0, 0] => true,
        proto::UDP if l4[6..8] == [0, 0] => false,
        _ => internet_checksum(&[&pseudo, l4]) == 0,
    }
}
