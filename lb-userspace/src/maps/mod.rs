//! The only writers and readers of the Service maps: one seam, with a body in the kernel and one in memory.
//!
//! [`Tables`] carries out the operations of [`crate::plan`] and reads back what is there. [`kernel`] is the pinned maps;
//! `memory` and `faulty` are for tests. [`dump`] is the one text form of what tables hold.

mod address;
pub mod batch;
pub mod causes;
pub mod dump;
pub mod events;
mod failure;
mod family_tables;
#[cfg(test)]
pub mod faulty;
mod filters;
pub mod flow_ends;
mod flow_filter;
pub mod flows;
pub mod jiffies;
pub mod kernel;
pub mod lookups;
mod mapped;
mod marks;
#[cfg(test)]
pub mod memory;
pub mod observe;
pub mod open_connections;
pub(crate) mod pins;
mod service_ranges;
mod set_tables;
pub mod sockets;
pub mod sweep;
mod tables;
pub mod traffic;

pub use address::MapAddress;
pub use failure::TableFailure;
pub use filters::LiveFlows;
pub use tables::{AgentTables, BackendMarks, FamilySettings, Marked, PinnedFacts, Tables, resting};
