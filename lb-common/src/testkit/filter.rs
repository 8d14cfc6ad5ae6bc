//! The filters in plain memory: the same arithmetic as the kernel's.

use crate::abi::filter::{self, Block};

/// A filter as the kernel has it.
#[derive(Clone, Debug)]
pub struct TestFilter(Vec<Block>);

impl TestFilter {
    pub(super) fn new(blocks: u32) -> Self {
        Self(vec![[0; filter::WORDS]; blocks as usize])
    }

    /// Adds a member.
    pub fn add(&mut self, hash: u64) {
        let at = filter::position(hash, self.0.len() as u32);
        self.0[at.block as usize][at.word as usize] |= at.bits;
    }

    pub(super) fn holds(&self, hash: u64) -> bool {
        let at = filter::position(hash, self.0.len() as u32);
        self.0[at.block as usize][at.word as usize] & at.bits == at.bits
    }
}
