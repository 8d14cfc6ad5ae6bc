//! Sluice's developer commands, one module a verb, and what its tests need to stand up.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these are command line tools: printing is their job")]

pub mod apiserver;
pub mod bench;
pub mod build;
pub mod cache;
pub mod command;
pub mod demo;
pub mod image;
pub mod lab;
pub mod lint;
pub mod release;
pub mod setup;
pub mod soak;
pub mod test;
pub mod tidy;
pub mod vm;
