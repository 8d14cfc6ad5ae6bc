//! Every type that crosses the border between the agent and the kernel.
//!
//! Plain integers only: no `bool`, `enum`, `Option` or `usize`, and no padding that the compiler adds
//! (`plain.rs` proves it). What lies in which map is told in `catalogue.rs` alone. Id 0 and generation 0 mean "none", so an
//! empty map fails safe.

mod addr;
mod backend;
mod catalogue;
mod catalogue_agent;
mod catalogue_single;
mod cause;
mod config;
mod counter;
mod event;
pub mod filter;
mod flow;
mod frontend;
pub mod held;
mod maglev;
mod names;
mod outlier;
mod plain;
mod socket;
mod stats;
pub mod table;
pub mod tables;

pub use addr::*;
pub use backend::*;
pub use catalogue::ABI_VERSION;
pub use cause::*;
pub use config::*;
pub use counter::*;
pub use event::*;
pub use flow::*;
pub use frontend::*;
pub use held::{HeldKey, HeldValue, SenderKey, Waiting};
pub use maglev::*;
pub use names::*;
pub use outlier::*;
pub use plain::Plain;
pub use socket::*;
pub use stats::*;
pub use tables::map_name;

/// Events of `LATELY`: the index of the IPv4 cell; IPv6's is the next one.
pub mod lately {
    /// A direct connection was given another source port.
    pub const REMAP: u32 = 0;
    /// The table of established flows refused a flow.
    pub const OVERFLOW: u32 = 2;
    /// Not an event: which half of `FLOW_FILTER` knows every flow, 1 or 2; 0: none.
    pub const FLOW_FILTER: u32 = 4;
    /// Number of cells.
    pub const COUNT: u32 = 6;
}

/// Values of `HANDOVER`: how far a successor with other tables is (docs/upgrade.md).
pub mod handover {
    /// Nobody takes over, or with the same tables.
    pub const NONE: u32 = 0;
    /// The successor's second stages come in, and still hand everything on to the former ones.
    pub const PREPARED: u32 = 1;
    /// What begins now is the successor's; what the former tables have is still theirs.
    pub const OPEN: u32 = 2;
}

/// Which tables of a former agent a program of its successor can ask. Bits.
pub mod former {
    /// Flows, and the second stages that know them.
    pub const FLOWS: u8 = 1;
    /// Affinity.
    pub const AFFINITY: u8 = 2;
    /// Sockets.
    pub const SOCKETS: u8 = 4;
}

/// Buckets of `REFUSALS`.
pub mod refusals {
    /// Of all clients.
    pub const ALL: u32 = 0;
    /// Of single clients: a power of two.
    pub const CLIENTS: u32 = 256;
    /// Not of refusals: of half-open flows that are moved out of the way of a direct connection.
    pub const MOVES: u32 = 1 + CLIENTS;
    /// Number of buckets.
    pub const COUNT: u32 = 1 + MOVES;

    /// The bucket of the client whose address has this hash.
    #[inline(always)]
    #[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "masked below 32 bits")]
    pub const fn of_client(hash: u64) -> u32 {
        1 + ((hash >> 32) as u32 & (CLIENTS - 1))
    }
}

/// Indices of the programs in `TC_REST`: those for IPv4, and as many for IPv6 behind them.
pub mod tc_rest {
    /// Packets that come in by a device with an Ethernet header.
    pub const INGRESS: u32 = 0;
    /// Packets that leave by such a device.
    pub const EGRESS: u32 = 1;
    /// Packets that come in by a device without a link header.
    pub const TUNNEL_INGRESS: u32 = 2;
    /// Packets that leave by such a device.
    pub const TUNNEL_EGRESS: u32 = 3;
    /// From a program for IPv4 to the same for IPv6.
    pub const V6: u32 = 4;
    /// Number of programs.
    pub const COUNT: u32 = 8;
}

/// Indices of the programs in `XDP_REST` and `XDP_LINEAR_REST`.
pub mod xdp_rest {
    /// IPv4.
    pub const V4: u32 = 0;
    /// IPv6.
    pub const V6: u32 = 1;
    /// Number of programs.
    pub const COUNT: u32 = 2;
}

/// IP protocol numbers (RFC 9293, RFC 768, RFC 9260, RFC 792, RFC 4443).
pub mod proto {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}
