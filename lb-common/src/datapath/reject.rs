//! The answer to a connection that is refused: TCP RST (RFC 9293 section 3.10.7.1). Refusing UDP by ICMP needs the
//! offending packet itself and is put together where the packet is.

use super::checksum;
use super::packet::Packet;
use super::parse::{Headers, tcp_flag};
use crate::abi::{Address, proto};

/// A TCP header without options, to be sent back to where the packet came from. Its checksum field is 0xffff, the
/// negative zero of one's complement arithmetic: adding [`RstHeader::pseudo_sum`] and [`RstHeader::header_sum`] to it
/// completes it, also where the device fills in the header's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RstHeader {
    /// The header's bytes.
    pub bytes: [u8; 20],
    /// Folded sum of the pseudo-header.
    pub pseudo_sum: u16,
    /// Folded sum of the header with a zero checksum field.
    pub header_sum: u16,
}

/// Builds the RST that refuses this TCP segment. `segment_len` is the length of the segment's payload.
#[inline(always)]
#[allow(clippy::as_conversions, reason = "sizes below 64 KiB and the split of words into bytes")]
#[allow(clippy::cast_possible_truncation, reason = "sizes below 64 KiB")]
pub fn rst<A: Address, P: Packet>(pkt: &P, headers: &Headers<A>, segment_len: u32) -> Option<RstHeader> {
    let tcp = pkt.bytes::<20>(usize::from(headers.l4))?;
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let ack = [tcp[8], tcp[9], tcp[10], tcp[11]];
    let (dport, sport) = ([tcp[2], tcp[3]], [tcp[0], tcp[1]]);
    let (seq_out, ack_out, flags) = if headers.tcp_flags & tcp_flag::ACK != 0 {
        (ack, [0; 4], tcp_flag::RST)
    } else {
        let syn = u32::from(headers.tcp_flags & tcp_flag::SYN != 0);
        let fin = u32::from(headers.tcp_flags & tcp_flag::FIN != 0);
        let next = seq.wrapping_add(segment_len).wrapping_add(syn).wrapping_add(fin);
        ([0; 4], next.to_be_bytes(), tcp_flag::RST | tcp_flag::ACK)
    };
    let word = |b: [u8; 4]| u64::from(u32::from_ne_bytes(b));
    let header_sum = checksum::fold(
        word([dport[0], dport[1], sport[0], sport[1]]) + word(seq_out) + word(ack_out) + word([0x50, flags, 0, 0]),
    );
    let pseudo_sum = checksum::fold(headers.key.src.sum() + headers.key.dst.sum() + word([0, proto::TCP, 0, 20]));
    Some(RstHeader {
        bytes: [
            dport[0], dport[1], sport[0], sport[1], seq_out[0], seq_out[1], seq_out[2], seq_out[3], ack_out[0],
            ack_out[1], ack_out[2], ack_out[3], 0x50, flags, 0, 0, 0xff, 0xff, 0, 0,
        ],
        pseudo_sum,
        header_sum,
    })
}
