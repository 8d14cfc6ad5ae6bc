//! Sluice's agent as a library: sources of what is wanted, the model of it, and the way into the kernel's maps.

#![deny(unsafe_code)]

pub mod allocator;
pub mod causes;
pub mod check;
pub mod cli;
pub mod config;
pub mod devices;
pub mod events;
pub mod faults;
#[cfg(test)]
mod golden;
pub mod health;
pub mod http;
pub mod kube;
pub mod linux;
pub mod load;
pub mod maps;
pub mod metrics;
pub mod model;
pub mod outliers;
pub mod plan;
pub mod query;
pub mod reconcile;
pub mod sockets;
pub mod source;
