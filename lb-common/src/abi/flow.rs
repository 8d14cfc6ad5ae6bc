//! Flow tables: `FLOWS4`/`FLOWS6` (established: the client has answered its backend; a plain hash, from which no newcomer
//! pushes anyone out) and `HALF4`/`HALF6` (half-open: it has not; LRU hash). Affinity (`AFFINITY4`/`6`) and fragment
//! (`FRAGS4`/`6`) tables: LRU hash.
//!
//! A flow is two entries. The forward entry is keyed by what the client sends; the reverse entry's key depends on its
//! kind, see [`flow_kind`]. Each entry holds the complete rewrite, so one look-up decides everything, and the key of
//! its twin follows from its own key and value.

use super::Be16;
use super::plain::plain;

plain! {
    /// Addresses, ports and protocol of a packet.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FlowKey<A> {
        /// Source address.
        pub src: A,
        /// Destination address.
        pub dst: A,
        /// Source port.
        pub sport: Be16,
        /// Destination port.
        pub dport: Be16,
        /// IP protocol number.
        pub proto: u8,
        /// Always 0.
        pub pad: [u8; 3],
    }
}

impl<A: Copy> FlowKey<A> {
    /// That of a packet the other way.
    #[must_use]
    #[inline(always)]
    pub const fn flipped(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, proto: self.proto, pad: [0; 3] }
    }
}

plain! {
    /// What to make of a packet that matches.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FlowValue<A> {
        /// Source address to write.
        pub src: A,
        /// Destination address to write.
        pub dst: A,
        /// Source port to write.
        pub sport: Be16,
        /// Destination port to write.
        pub dport: Be16,
        /// One of [`flow_kind`].
        pub kind: u8,
        /// One of [`flow_action`].
        pub action: u8,
        /// Bits of [`flow_state`]: set, never cleared, by the direction that this entry stands for.
        pub state: u16,
        /// Backend id.
        pub backend: u32,
        /// The backend's generation when it was chosen.
        pub generation: u32,
        /// Service id.
        pub service: u32,
        /// When a packet last matched, in jiffies (low 32 bits).
        pub seen: u32,
        /// Device on which the request came in; 0 in a `REVERSE_SNAT` entry: the reply goes by the routing table; 0 in a `FORWARD`
        /// entry among the established: its client has not answered its backend yet.
        pub ifindex: u32,
        /// Device by which this entry's packets enter the node, as far as that has been looked at; a packet that comes by
        /// another is looked at again. 0: a process of the node, or none came yet.
        pub from: u32,
        /// TCP: the sequence number behind the newest byte of this entry's direction (RFC 9293 SND.NXT). 0: not known.
        pub next: u32,
        /// Device that the packet leaves by in forwarding mode redirect; 0: the stack's business.
        pub out: u32,
        /// One's-complement sum of what the rewrite adds to the addresses (RFC 1624's m' - m), folded.
        pub addr_delta: u16,
        /// The same for the ports.
        pub port_delta: u16,
        /// What this entry's packets add to the backend's count, as far as it has not been added yet.
        pub tally: Tally,
        /// Forward entry: when the flow began, in jiffies; 0: not known. TCP's reverse entry: the complement of the
        /// number behind the backend's SYN, which is `next` as long as the backend has sent nothing else; or the number behind a SYN
        /// that the client has sent on the live flow, which begins it anew once the backend has taken it. 0: none. The complement,
        /// because both sides may begin with the same number.
        pub born: u32,
    }
}

plain! {
    /// Packets of a busy flow that are counted together, so that most of them need no look-up but the flow's.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Tally {
        /// Packets since [`FlowValue::seen`] last changed, as far as they make a difference.
        pub burst: u16,
        /// Packets that the backend's count lacks.
        pub packets: u16,
        /// Bytes that the backend's count lacks.
        pub bytes: u32,
    }
}

/// Values of [`FlowValue::kind`].
pub mod flow_kind {
    /// Client to VIP. Key: the packet as the client sent it.
    pub const FORWARD: u8 = 1;
    /// Backend to client, met on its way out to the client. Key: the *translated request* (client to backend), that is
    /// the reply's tuple flipped. A direct connection of the client to the backend has just that tuple, so it finds
    /// this entry with its ordinary look-up and the collision is noticed.
    pub const REVERSE: u8 = 2;
    /// Backend to the address and port that Sluice lent the client (source NAT), met on its way in. Key: the reply as
    /// the backend sent it.
    pub const REVERSE_SNAT: u8 = 3;
    /// A direct connection whose source port was changed because a Service flow has the same tuple towards the Pod.
    /// The twin is an ordinary [`REVERSE`].
    pub const DIRECT: u8 = 4;
    /// A connection of the node's own, or one that it masquerades, from a port that Sluice may take for a frontend's or
    /// for an SNAT port. Key: the *answer* (far end to node). One entry, in the table of half-open flows, which rewrites
    /// nothing: answers pass. `state` is of both directions.
    pub const OWN: u8 = 5;
}

/// Values of [`FlowValue::action`].
pub mod flow_action {
    /// The translated packet goes on through the kernel's stack.
    pub const STACK: u8 = 0;
    /// The translated packet leaves by route look-up and redirect: its source would be a martian in the stack.
    pub const ROUTE: u8 = 1;
    /// Back out of the device that it came from, MAC addresses swapped (hairpin).
    pub const HAIRPIN: u8 = 2;
    /// To the other end of the device [`super::FlowValue::out`], past the host's stack (forwarding mode `redirect`).
    pub const PEER: u8 = 3;

    /// Whether the source address stays the client's.
    #[inline(always)]
    pub const fn keeps_source(action: u8) -> bool {
        action == STACK || action == PEER
    }
}

/// Bits of [`FlowValue::state`].
pub mod flow_state {
    /// FIN seen in this direction.
    pub const FIN: u16 = 1;
    /// RST seen in this direction.
    pub const RST: u16 = 2;
    /// The backend has answered.
    pub const REPLIED: u16 = 4;
    /// The Service has affinity, and this flow's client is to be noted when the flow is answered for.
    pub const AFFINE: u16 = 8;
    /// One side has closed the flow, or reset it.
    pub const CLOSED: u16 = FIN | RST;
    /// The flow is among those in [`crate::abi::StatsValue::open`] until it is over.
    pub const COUNTED: u16 = 16;
}

plain! {
    /// Key of the affinity table: one client of one service port. A packet's client is known by its address, a socket's
    /// by its network namespace: its address is chosen only after the backend.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AffinityKey<A> {
        /// The client's address.
        pub client: A,
        /// Service id.
        pub service: u32,
        /// Cookie of the client's network namespace (`SO_NETNS_COOKIE`), low half first; 0: known by address.
        pub netns: [u32; 2],
    }
}

plain! {
    /// The backend that a client had last.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AffinityValue {
        /// Time of the client's newest connection, nanoseconds of `CLOCK_MONOTONIC`.
        pub last_ns: u64,
        /// Backend id.
        pub backend: u32,
        /// The backend's generation when it was chosen.
        pub generation: u32,
    }
}

plain! {
    /// A fragmented datagram (RFC 791, RFC 8200 section 4.5).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FragmentKey<A> {
        /// Source address.
        pub src: A,
        /// Destination address.
        pub dst: A,
        /// Identification, as it lies in the packet (IPv4: zero-extended).
        pub id: u32,
        /// IP protocol number. IPv6: 0, since only the first fragment says it.
        pub proto: u32,
    }
}

plain! {
    /// What a datagram's first fragment says of it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FragmentValue {
        /// Source port.
        pub sport: Be16,
        /// Destination port.
        pub dport: Be16,
        /// IP protocol number.
        pub proto: u32,
        /// When it was seen, in units of 2^20 nanoseconds of `CLOCK_MONOTONIC`.
        pub seen: u32,
    }
}
