//! The filters in plain memory: the same arithmetic as the kernel's.

use super::family::Family;
use crate::abi::filter::{self, Block};
use crate::abi::{FrontendKey, FrontendValue, frontend_kind};

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

/// What a frontend adds to the filter: a `ClusterIP` by its address, others with their port.
pub fn front_hash<A: Family>(key: &FrontendKey<A>, value: &FrontendValue) -> u64 {
    if value.kind == frontend_kind::KNOWN_VIP {
        filter::address_hash(key.addr)
    } else {
        filter::endpoint_hash(key.addr, key.port)
    }
}
