//! The data path: what becomes of a packet, and of a socket call.
//!
//! [`pipeline::process`] is the way of a packet, generic over the address family, over the packet ([`Frame`]) and over
//! everything around it ([`Env`]): tables, time, chance, routes, counters. The kernel programs, the host's tests and
//! fuzzing bring their own implementation of these traits and decide nothing themselves.

mod account;
mod arrival;
mod closing;
mod create;
mod deliver;
mod echo;
mod egress;
mod env;
mod existing;
pub mod flow;
mod fragment;
mod frame;
mod gate;
mod headers;
mod icmp;
mod ingress;
mod limit;
mod outcome;
mod outlier;
mod own;
pub mod pipeline;
mod refuse;
mod remap;
mod retry;
mod rewrite;
mod schedule;
mod scope;
mod scratch;
mod sequence;
mod silence;
mod snat;
mod socket;
mod split;
pub mod transport;
mod watch;

pub use arrival::{Arrival, Hook};
pub use env::{Counters, Direction, Env, Flows, Fragments, Host, NextHop, Route, Services, SocketEnv, Stage, Watch};
pub use frame::Frame;
pub use headers::{Headers, Parsed};
pub use outcome::{Outcome, Reason, Verdict};
pub use schedule::{Choice, scaled};
pub use scope::is_internal;
pub use scratch::{Scratch, Workspace};
pub use socket::{
    SocketCall, SocketVerdict, socket_answered, socket_bind, socket_closed, socket_connect, socket_failed,
    socket_is_led, socket_peer, socket_released, socket_send, socket_unanswered,
};
