//! Sluice's agent as a library: sources of what is wanted, the model of it, and the way into the kernel's maps.

pub mod attach;
pub mod cli;
pub mod config;
pub mod events;
pub mod health;
pub mod maps;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod sockets;
pub mod source;
