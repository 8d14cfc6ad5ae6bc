//! The agent against a real API server.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed expectation should stop the test where it stands")]

mod api;
mod cases;
mod compare;
mod deploy;
mod fixture;
mod flood;
mod forty;
mod harness;
mod latency;
mod life;
mod objects;
mod oracle;
mod outage;
mod rbac;
mod slow;
