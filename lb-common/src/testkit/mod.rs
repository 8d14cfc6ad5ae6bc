//! Packet builder, memory tables and named vectors, for tests of every layer.
//!
//! A vector is a script against a [`Node`]: it sets up Services, sends packets into hooks and says what has to come
//! out, to the byte. [`HostNode`] runs it in plain memory, the in-kernel tests run it through the loaded programs.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "test support fails by panicking and builds small packets"
)]

mod bytes;
mod counts;
mod diff;
mod family;
mod filter;
mod flow_ref;
mod fragments;
#[cfg(feature = "testkit")]
pub mod fuzz;
mod host;
mod memory;
mod node;
mod noise;
mod packet;
mod scene;
mod service;
mod services;
pub mod vectors;
mod waiting;
mod watch;
mod wire;

pub use bytes::Bytes;
pub use diff::explain;
pub use family::{Family, GATEWAY_MAC, HOST_MAC, PEER_MAC};
pub use filter::TestFilter;
pub use flow_ref::FlowRef;
pub use fragments::FragmentTables;
pub use host::{HostNode, MTU};
pub use memory::{Lookups, Memory};
pub use node::{Action, Hook, Node, Outcome, POD, UPLINK, UPLINK2, gathered};
pub use noise::Noise;
pub use packet::{Extension, L4, Pkt};
pub use scene::Scene;
pub use service::{Endpoint, Service};
pub use wire::{checksums_hold, internet_checksum};
