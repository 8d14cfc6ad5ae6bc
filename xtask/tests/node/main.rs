//! Whole nodes in network namespaces, with real sockets.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation should stop the test where it stands")]

mod affinity;
mod bad_input;
mod bulk;
mod crash;
mod devices;
mod direct;
mod endpoints;
mod fixture;
mod health;
mod matrix;
mod refusal;
mod scale;
mod tunnel;
