//! What is wanted, from Kubernetes objects to desired state. Pure: knows neither aya nor Kubernetes clients.
//!
//! ```text
//! Kubernetes object -> record (trimmed, parsed) -> world (store) -> resolve -> DesiredService -> Change
//! ```

pub mod desired;
pub mod record;
pub mod world;
