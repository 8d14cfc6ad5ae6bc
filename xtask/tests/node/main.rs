//! Whole nodes in network namespaces, with real sockets.
#![allow(clippy::panic, reason = "a failed expectation should stop the test where it stands")]

mod direct;
