//! `EVENTS`: a ring of what became of packets, for who listens. `WATCH`: until when somebody does.

use super::plain::plain;
use super::{Be16, FlowKey};

/// Cells of `WATCH`.
pub mod watch {
    /// Until when somebody listens, in units of 2^30 nanoseconds of `CLOCK_MONOTONIC`; 0: nobody.
    pub const UNTIL: u32 = 0;
    /// Events that found no room.
    pub const LOST: u32 = 1;
    /// Number of cells.
    pub const COUNT: u32 = 2;
}

/// Bytes of the ring: some ten thousand events.
pub const EVENTS_BYTES: u32 = 1 << 20;

plain! {
    /// What became of a packet. A record's length says the family.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EventValue<A> {
        /// When, in nanoseconds of `CLOCK_MONOTONIC`.
        pub now_ns: u64,
        /// The packet as it came.
        pub key: FlowKey<A>,
        /// Source address that was written; zero: none.
        pub src: A,
        /// Destination address that was written; zero: none.
        pub dst: A,
        /// Source port that was written.
        pub sport: Be16,
        /// Destination port that was written.
        pub dport: Be16,
        /// Service id; 0: none.
        pub service: u32,
        /// Backend id; 0: none.
        pub backend: u32,
        /// The backend's generation.
        pub generation: u32,
        /// Device.
        pub ifindex: u32,
        /// Number of the reason.
        pub reason: u32,
        /// TCP: sequence number.
        pub seq: u32,
        /// TCP: acknowledgement number.
        pub ack: u32,
        /// Bytes from the network header on.
        pub length: u16,
        /// TCP's flags.
        pub flags: u8,
        /// Hop limit.
        pub hop_limit: u8,
        /// Always 0.
        pub pad: u32,
    }
}
