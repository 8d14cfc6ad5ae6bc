//! The data path's decisions, pure: parse, then decide, then (elsewhere) write.
//!
//! ```text
//! parse -> flow hit? ------------------------------------> rewrite -> forward
//!            \-> frontend -> policy -> affinity -> select -> new flow -/
//! ```
//!
//! Everything is generic over the address family and over [`Env`], the tables and the node around the packet. The
//! kernel programs and the host's tests bring an `Env` and a packet; they decide nothing themselves.

mod account;
pub mod checksum;
mod create;
mod direct;
mod egress;
mod env;
mod icmp;
mod ingress;
mod ip;
mod packet;
mod parse;
mod reject;
mod rewrite;
mod scratch;
mod select;
mod socket;
mod verdict;

pub use account::account;
pub use egress::{egress, egress_slow};
pub use env::{Env, Route};
pub use icmp::{IcmpRewrite, icmp_egress, icmp_ingress};
pub use ingress::{ingress, ingress_slow};
pub use ip::IpVersion;
pub use packet::{Packet, Store};
pub use parse::{Fragment, Headers, Parsed, fragment, parse, tcp_flag};
pub use reject::{Refused, Trouble, complain, complaint_length, complaint_room, refused, rst, rst_length, swap_macs};
pub use rewrite::rewrite;
pub use scratch::Scratch;
pub use select::Choice;
pub use socket::{Called, Caller, SocketEnv, socket_bind, socket_closed, socket_connect, socket_peer, socket_send};
pub use verdict::{Fast, Verdict};
