//! `STATS4`/`STATS6`: array, index = backend id. What went to a backend and came back.
//! `TOTALS`: hash, key = service id. The same of a service port's backends that are gone.

use super::plain::plain;

plain! {
    /// Traffic of one backend. Ids beyond the map are not counted, nor is traffic of another
    /// generation.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StatsValue {
        /// Packets towards the backend.
        pub packets: u64,
        /// Bytes of them, from the network header on.
        pub bytes: u64,
        /// Packets from the backend.
        pub reply_packets: u64,
        /// Bytes of them, from the network header on.
        pub reply_bytes: u64,
        /// New flows.
        pub connections: u64,
        /// The backend's generation; 0: nothing is counted here.
        pub generation: u32,
        /// Connections that are open, of a Service whose algorithm counts them: see [`StatsValue::open_now`].
        pub open: u32,
        /// New flows of packets, less those that the backend has answered. Flows that began before this was counted make
        /// it smaller: below zero, as a signed number, stands for 0.
        pub unanswered: u64,
        /// Refusals by the backend: a RST for a SYN, an ICMP error "port unreachable" for a datagram. With it a cell is as
        /// large as a cache line.
        pub refused: u64,
    }
}

impl StatsValue {
    /// The sum of both; it has no generation.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
            reply_packets: self.reply_packets.wrapping_add(other.reply_packets),
            reply_bytes: self.reply_bytes.wrapping_add(other.reply_bytes),
            connections: self.connections.wrapping_add(other.connections),
            generation: 0,
            open: 0,
            unanswered: self.unanswered.wrapping_add(other.unanswered),
            refused: self.refused.wrapping_add(other.refused),
        }
    }

    /// What was counted since `then`; it has no generation.
    #[must_use]
    pub const fn minus(&self, then: &Self) -> Self {
        Self {
            packets: self.packets.wrapping_sub(then.packets),
            bytes: self.bytes.wrapping_sub(then.bytes),
            reply_packets: self.reply_packets.wrapping_sub(then.reply_packets),
            reply_bytes: self.reply_bytes.wrapping_sub(then.reply_bytes),
            connections: self.connections.wrapping_sub(then.connections),
            generation: 0,
            open: 0,
            unanswered: self.unanswered.wrapping_sub(then.unanswered),
            refused: self.refused.wrapping_sub(then.refused),
        }
    }

    /// Whether nothing was counted.
    pub const fn is_empty(&self) -> bool {
        let traffic = self.packets | self.bytes | self.reply_packets | self.reply_bytes;
        traffic | self.connections | self.unanswered | self.refused == 0
    }

    /// Connections that are open. One that ends unseen by the programs stays until the agent counts anew, and one that the agent
    /// has counted out may end once more: below zero, as a signed number, stands for 0.
    #[inline(always)]
    pub const fn open_now(open: u32) -> u32 {
        if open >> 31 == 0 { open } else { 0 }
    }

    /// Flows that the backend has not answered, or not yet.
    pub const fn waiting(&self) -> u64 {
        if self.unanswered >> 63 == 0 { self.unanswered } else { 0 }
    }
}
