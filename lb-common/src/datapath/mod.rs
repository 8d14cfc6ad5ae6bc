//! The data path's decisions, pure: parse, then decide, then (elsewhere) write.
//!
//! ```text
//! parse -> flow hit? ------------------------------------> rewrite -> forward
//!            \-> frontend -> policy -> affinity -> select -> new flow -/
//! ```
//!
//! Everything is generic over the address family and over [`Env`], the tables and the node around the packet. The
//! kernel programs and the host's tests bring an `Env` and a packet; they decide nothing themselves.

pub mod checksum;
mod create;
mod egress;
mod env;
mod icmp;
mod ingress;
mod packet;
mod parse;
mod reject;
mod rewrite;
mod select;
mod verdict;

pub use egress::{egress, egress_slow};
pub use env::{Env, Route};
pub use icmp::{IcmpRewrite, icmp_egress, icmp_ingress};
pub use ingress::{Edge, ingress, ingress_slow};
pub use packet::{Packet, PacketMut, Store};
pub use parse::{Fragment, Headers, IpVersion, Parsed, later_fragment, parse, record_fragment, tcp_flag};
pub use reject::{RstHeader, rst};
pub use rewrite::{decrement_ttl, rewrite};
pub use verdict::{Fast, Verdict};
