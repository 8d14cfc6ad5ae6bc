//! What Sluice's kernel programs and its agent share.
//!
//! - [`abi`]: every type that crosses the kernel border, and nothing else.
//! - [`wire`]: header formats, without decisions.
//! - [`datapath`]: the decisions of the data path, pure and without `unsafe`: the same source runs in XDP, in TC and
//!   on the host in tests.
//! - `testkit` (feature): packet builder, memory tables and named vectors.

#![cfg_attr(not(any(test, feature = "testkit")), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(not(any(test, feature = "testkit")), deny(clippy::indexing_slicing, clippy::as_conversions))]

pub mod abi;
pub mod datapath;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod wire;
