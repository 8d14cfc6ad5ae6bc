//! Sluice's agent: from Kubernetes objects or manifests to the maps that the kernel programs read.

pub mod attach;
pub mod cli;
pub mod maps;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod source;
