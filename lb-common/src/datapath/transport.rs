//! What differs between transport protocols. A further protocol is a file in `wire` and an entry here.

use crate::abi::{flow_state, proto};
use crate::wire::{Read, sctp, tcp, udp};

/// How a packet of a protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By a TCP RST (RFC 9293 section 3.10.7.1).
    Reset,
    /// By ICMP port unreachable.
    PortUnreachable,
}

/// How a protocol's checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The Internet checksum over pseudo-header and packet (RFC 1071).
    Internet,
    /// The same, and 0 stands for "none" (RFC 768).
    InternetOptional,
    /// `CRC32c` over the packet alone (RFC 9260): addresses do not count, and no delta can patch it.
    Crc32c,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Both ports, as they lie in the packet.
    pub ports: u32,
    /// What it says of a connection's life: TCP's flags, SCTP's chunk type, else 0.
    pub flags: u8,
    /// TCP: length of the header in bytes; else 0.
    pub header: u8,
    /// TCP: sequence number of the first byte; else 0.
    pub seq: u32,
    /// TCP: acknowledgement number; else 0.
    pub ack: u32,
}

/// A transport protocol.
pub trait Transport {
    /// IP protocol number.
    const NUMBER: u8;
    /// Offset of the checksum in the header.
    const CHECKSUM: usize;
    /// How it is made.
    const CHECKSUM_KIND: Checksum;
    /// Connections begin with a handshake, so that their first packet can be told.
    const HANDSHAKE: bool;
    /// How a packet is refused.
    const REFUSAL: Refusal;
    /// Bytes of an offending packet's transport header that an ICMP error quotes.
    const QUOTED: usize;
    /// How long an established flow may be idle, in seconds.
    const IDLE_SECS: u32;

    /// Reads the header.
    fn read<P: Read>(pkt: &P, l4: usize) -> Option<Segment>;
    /// Whether a packet opens a connection.
    fn opens(flags: u8) -> bool;
    /// Whether a packet accepts a connection that another opened: sequence numbers of its direction begin anew.
    fn answers_opening(flags: u8) -> bool;
    /// Whether a reply begins its connection, or aborts it.
    fn is_rare_reply(flags: u8) -> bool;
    /// Whether a packet's acknowledgement number counts.
    fn acknowledges(flags: u8) -> bool;
    /// Whether a packet can be the first reply of a flow.
    fn may_be_first_reply(flags: u8) -> bool;
    /// Bits of [`flow_state`] that a packet sets.
    fn state_bits(flags: u8) -> u16;
}

/// TCP.
#[derive(Debug)]
pub struct Tcp;
/// UDP.
#[derive(Debug)]
pub struct Udp;
/// SCTP. Read and checked on the host; the kernel programs do not serve it yet.
#[derive(Debug)]
pub struct Sctp;

impl Transport for Tcp {
    const NUMBER: u8 = proto::TCP;
    const CHECKSUM: usize = tcp::CHECKSUM;
    const CHECKSUM_KIND: Checksum = Checksum::Internet;
    const HANDSHAKE: bool = true;
    const REFUSAL: Refusal = Refusal::Reset;
    // The whole header: an skb with an unfinished checksum cannot be cut to less.
    const QUOTED: usize = tcp::HEADER;
    const IDLE_SECS: u32 = 24 * 3600;

    #[inline(always)]
    fn read<P: Read>(pkt: &P, l4: usize) -> Option<Segment> {
        let [ports, seq, ack, offset_flags, _] = pkt.u32s_at::<{ tcp::WORDS }>(l4)?;
        let [offset, flags, _, _] = offset_flags.to_ne_bytes();
        Some(Segment { ports, flags, header: (offset >> 4) * 4, seq: u32::from_be(seq), ack: u32::from_be(ack) })
    }

    #[inline(always)]
    fn opens(flags: u8) -> bool {
        flags & (tcp::flag::SYN | tcp::flag::ACK) == tcp::flag::SYN
    }

    #[inline(always)]
    fn answers_opening(flags: u8) -> bool {
        flags & (tcp::flag::SYN | tcp::flag::ACK) == tcp::flag::SYN | tcp::flag::ACK
    }

    #[inline(always)]
    fn is_rare_reply(flags: u8) -> bool {
        flags & (tcp::flag::SYN | tcp::flag::RST) != 0
    }

    #[inline(always)]
    fn acknowledges(flags: u8) -> bool {
        flags & tcp::flag::ACK != 0
    }

    /// A SYN is answered by a SYN-ACK or by a RST, and either acknowledges it (RFC 9293 sections 3.5 and 3.10.7.3).
    #[inline(always)]
    fn may_be_first_reply(flags: u8) -> bool {
        flags & tcp::flag::ACK != 0 && flags & (tcp::flag::SYN | tcp::flag::RST) != 0
    }

    #[inline(always)]
    fn state_bits(flags: u8) -> u16 {
        let mut state = 0;
        if flags & tcp::flag::FIN != 0 {
            state |= flow_state::FIN;
        }
        if flags & tcp::flag::RST != 0 {
            state |= flow_state::RST;
        }
        state
    }
}

impl Transport for Udp {
    const NUMBER: u8 = proto::UDP;
    const CHECKSUM: usize = udp::CHECKSUM;
    const CHECKSUM_KIND: Checksum = Checksum::InternetOptional;
    const HANDSHAKE: bool = false;
    const REFUSAL: Refusal = Refusal::PortUnreachable;
    const QUOTED: usize = udp::HEADER;
    const IDLE_SECS: u32 = 180;

    #[inline(always)]
    fn read<P: Read>(pkt: &P, l4: usize) -> Option<Segment> {
        let [ports, _] = pkt.u32s_at::<{ udp::WORDS }>(l4)?;
        Some(Segment { ports, ..Segment::default() })
    }

    #[inline(always)]
    fn opens(_flags: u8) -> bool {
        false
    }

    #[inline(always)]
    fn answers_opening(_flags: u8) -> bool {
        false
    }

    #[inline(always)]
    fn is_rare_reply(_flags: u8) -> bool {
        false
    }

    #[inline(always)]
    fn acknowledges(_flags: u8) -> bool {
        false
    }

    #[inline(always)]
    fn may_be_first_reply(_flags: u8) -> bool {
        true
    }

    #[inline(always)]
    fn state_bits(_flags: u8) -> u16 {
        0
    }
}

impl Transport for Sctp {
    const NUMBER: u8 = proto::SCTP;
    const CHECKSUM: usize = sctp::CHECKSUM;
    const CHECKSUM_KIND: Checksum = Checksum::Crc32c;
    const HANDSHAKE: bool = true;
    const REFUSAL: Refusal = Refusal::PortUnreachable;
    const QUOTED: usize = 8;
    const IDLE_SECS: u32 = 5 * 3600;

    /// The type of the first chunk stands for the flags.
    fn read<P: Read>(pkt: &P, l4: usize) -> Option<Segment> {
        let [ports, _, _, chunk] = pkt.u32s_at::<4>(l4)?;
        let [kind, ..] = chunk.to_ne_bytes();
        Some(Segment { ports, flags: kind, ..Segment::default() })
    }

    fn opens(kind: u8) -> bool {
        kind == sctp::chunk::INIT
    }

    fn answers_opening(kind: u8) -> bool {
        kind == sctp::chunk::INIT_ACK
    }

    fn is_rare_reply(kind: u8) -> bool {
        matches!(kind, sctp::chunk::INIT_ACK | sctp::chunk::ABORT)
    }

    /// SCTP has no such number in its common header (RFC 9260 section 3.1).
    fn acknowledges(_kind: u8) -> bool {
        false
    }

    fn may_be_first_reply(kind: u8) -> bool {
        matches!(kind, sctp::chunk::INIT_ACK | sctp::chunk::ABORT)
    }

    fn state_bits(kind: u8) -> u16 {
        match kind {
            sctp::chunk::ABORT | sctp::chunk::SHUTDOWN_COMPLETE => flow_state::RST,
            sctp::chunk::SHUTDOWN => flow_state::FIN,
            _ => 0,
        }
    }
}

/// The protocols that the data path serves, by their number: evaluates an expression with the type `$t`.
macro_rules! served {
    ($number:expr, $t:ident => $known:expr) => {
        if $number == Tcp::NUMBER {
            type $t = Tcp;
            $known
        } else {
            type $t = Udp;
            $known
        }
    };
}

/// Whether the data path serves a protocol.
#[inline(always)]
pub const fn is_served(number: u8) -> bool {
    number == Tcp::NUMBER || number == Udp::NUMBER
}

/// [`Transport::read`] of a served protocol.
#[inline(always)]
pub(super) fn read<P: Read>(pkt: &P, number: u8, l4: usize) -> Option<Segment> {
    served!(number, T => T::read(pkt, l4))
}

/// [`Transport::opens`] of a served protocol.
#[inline(always)]
pub(super) fn opens(number: u8, flags: u8) -> bool {
    served!(number, T => T::opens(flags))
}

/// [`Transport::HANDSHAKE`] of a served protocol.
#[inline(always)]
pub(super) fn has_handshake(number: u8) -> bool {
    served!(number, T => T::HANDSHAKE)
}

/// [`Transport::may_be_first_reply`] of a served protocol.
#[inline(always)]
pub(super) fn may_be_first_reply(number: u8, flags: u8) -> bool {
    served!(number, T => T::may_be_first_reply(flags))
}

/// [`Transport::answers_opening`] of a served protocol.
#[inline(always)]
pub(super) fn answers_opening(number: u8, flags: u8) -> bool {
    served!(number, T => T::answers_opening(flags))
}

/// [`Transport::acknowledges`] of a served protocol.
#[inline(always)]
pub(super) fn acknowledges(number: u8, flags: u8) -> bool {
    served!(number, T => T::acknowledges(flags))
}

/// [`Transport::is_rare_reply`] of a served protocol.
#[inline(always)]
pub(super) fn is_rare_reply(number: u8, flags: u8) -> bool {
    served!(number, T => T::is_rare_reply(flags))
}

/// The sequence number behind a segment of `length` bytes, header included.
#[inline(always)]
pub(super) fn end(segment: &Segment, length: u16) -> u32 {
    let data = u32::from(length).saturating_sub(u32::from(segment.header));
    let phantom = u32::from(segment.flags & tcp::flag::SYN != 0) + u32::from(segment.flags & tcp::flag::FIN != 0);
    segment.seq.wrapping_add(data).wrapping_add(phantom)
}

/// [`Transport::state_bits`] of a served protocol.
#[inline(always)]
pub(super) fn state_bits(number: u8, flags: u8) -> u16 {
    served!(number, T => T::state_bits(flags))
}

/// [`Transport::CHECKSUM`] of a served protocol, and whether 0 stands for "none" there.
#[inline(always)]
pub fn checksum_field(number: u8) -> (usize, bool) {
    served!(number, T => (T::CHECKSUM, matches!(T::CHECKSUM_KIND, Checksum::InternetOptional)))
}

/// [`Transport::REFUSAL`] of a served protocol.
#[inline(always)]
pub(super) fn refusal(number: u8) -> Refusal {
    served!(number, T => T::REFUSAL)
}

/// [`Transport::QUOTED`] of a served protocol.
#[inline(always)]
pub(super) fn quoted(number: u8) -> usize {
    served!(number, T => T::QUOTED)
}

/// [`Transport::IDLE_SECS`] of a served protocol.
pub fn idle_secs(number: u8) -> u32 {
    served!(number, T => T::IDLE_SECS)
}
