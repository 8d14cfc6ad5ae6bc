//! What is wanted, from Kubernetes objects to desired state. Pure: knows neither aya nor Kubernetes clients.
//!
//! ```text
//! Kubernetes object -> record (trimmed, parsed) -> world (store) -> resolve -> DesiredService -> Change
//! ```

pub mod address;
mod claims;
pub mod desired;
pub mod endpoints;
mod fingerprint;
mod nodes;
pub mod record;
mod refusals;
pub mod resolve;
mod service_cidrs;
pub mod services;
pub mod topology;
pub mod world;

pub use refusals::Refusals;

#[cfg(test)]
mod tests;
