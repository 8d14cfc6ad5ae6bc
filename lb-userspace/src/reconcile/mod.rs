//! From events to maps: the one task that writes.

mod writer;
#[cfg(test)]
mod writer_tests;

pub use writer::{Outcome, Writer};
