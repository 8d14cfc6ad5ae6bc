//! What is wanted, from records of Kubernetes objects to desired state. Pure: knows neither aya nor Kubernetes types.
//!
//! ```text
//! record (from `source`) -> world (store) -> resolve -> DesiredService -> Change
//! ```

pub mod address;
pub mod algorithm;
mod claims;
pub mod desired;
pub mod ejection;
pub mod endpoints;
pub mod event;
pub mod family;
mod fingerprint;
mod frontends;
pub mod reason;
pub mod record;
pub mod refusals;
pub mod resolve;
pub mod topology;
pub mod trigger;
pub mod view;
pub mod weights;
pub mod world;
