//! Sluice's agent as a library: sources of what is wanted, the model of it, and the way into the kernel's maps.

pub mod attach;
pub mod cli;
pub mod maps;
pub mod memory;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod source;
