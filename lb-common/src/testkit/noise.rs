//! Random changes to packets, the same ones in every run of a seed: hostile input for host and kernel alike.

use super::family::Family;
use super::packet::Pkt;
use crate::abi::proto;
use crate::wire::tcp::flag as tcp_flag;

/// A source of random numbers (xorshift64*).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Up to `most` random bytes behind an Ethernet header of the family.
    pub fn garbage<A: Family>(&mut self, most: usize) -> Vec<u8> {
        let mut out = Pkt::<A>::raw(A::ZERO, A::ZERO, 0, &[]).bytes()[..14].to_vec();
        out.extend((0..self.below(most + 1)).map(|_| self.byte()).collect::<Vec<_>>());
        out
    }

    /// Changes up to three bytes behind the Ethernet header, and at times cuts the end off.
    pub fn damage(&mut self, packet: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            // Headers are more worth it than payload.
            let reach = packet.len().min(14 + 96);
            let at = 14 + self.below(reach - 14);
            packet[at] = match self.below(4) {
                0 => 0,
                1 => 0xff,
                2 => packet[at] ^ 1 << self.below(8),
                _ => self.byte(),
            };
        }
        if self.below(4) == 0 {
            packet.truncate(15 + self.below(packet.len() - 14));
        }
    }

    /// A packet between clients, a frontend and its endpoints, of any kind, damaged or not.
    pub fn packet<A: Family>(&mut self) -> Vec<u8> {
        let clients = [(A::POD, 40_000), (A::CLIENT, 40_001), (A::POD, 40_002)];
        let servers = [(A::LB, 443), (A::LOCAL, 8080), (A::REMOTE, 8080), (A::VIP, 80), (A::UNALLOCATED, 1)];
        let client = clients[self.below(3)];
        let server = servers[self.below(5)];
        let proto = if self.below(2) == 0 { proto::TCP } else { proto::UDP };
        let node = (A::NODE, 61_000);
        let (src, dst) = match self.below(4) {
            0 | 1 => (client, server),
            2 => (server, client),
            _ => (server, node),
        };
        let mut out = if proto == proto::TCP && self.below(2) == 0 {
            let flags = [tcp_flag::SYN, tcp_flag::SYN | tcp_flag::ACK, tcp_flag::RST, tcp_flag::FIN | tcp_flag::ACK];
            Pkt::tcp(src, dst, flags[self.below(4)])
        } else {
            Pkt::data(proto, src, dst)
        };
        if self.below(4) == 0 {
            let about = Pkt::data(proto, dst, src);
            let quote = 8 + self.below(20);
            let kind = if A::IS_V6 { (1 + self.below(4) as u8, 0) } else { (3, self.below(16) as u8) };
            out = Pkt::icmp_error(src.0, dst.0, kind, 0, &about, quote);
        }
        out.ttl = [64, 2, 1][self.below(3)];
        if self.below(4) == 0 {
            out = out.long_header();
        }
        if self.below(8) == 0 {
            return self.fragment(&out);
        }
        let mut bytes = out.bytes();
        if self.below(2) == 0 {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn fragment<A: Family>(&mut self, whole: &Pkt<A>) -> Vec<u8> {
        let [first, later] = whole.fragments(8);
        if self.below(2) == 0 { first } else { later }
    }
}
