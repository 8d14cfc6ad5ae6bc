//! Tables of Maglev: written block by block, before anything leads to them.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{HashMap, MapData};
use lb_common::abi::{TABLE_BLOCK, TableBlock, TableKey};

use super::failure::TableFailure;
use super::observe::capacity;
use super::pins::{fault, open, read_failure, removed, write_failure};

/// The tables of one family.
#[derive(Debug)]
pub(super) struct SetTables {
    blocks: HashMap<MapData, TableKey, TableBlock>,
    name: &'static str,
    limit: u32,
}

impl SetTables {
    pub(super) fn open(dir: &Path, name: &'static str) -> Result<Self, TableFailure> {
        Ok(Self { blocks: open(dir, name)?, name, limit: capacity(dir, name)? })
    }

    /// How many blocks there may be.
    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn put(&mut self, set: u32, bytes: &[u8]) -> Result<(), TableFailure> {
        let mut value = TableBlock { bytes: [0; TABLE_BLOCK] };
        for (block, part) in (0..).zip(bytes.chunks(TABLE_BLOCK)) {
            value.bytes[..part.len()].copy_from_slice(part);
            fault(self.name)?;
            let written = self.blocks.insert(TableKey { set, block }, value, 0);
            written.map_err(|source| write_failure(self.name, source))?;
        }
        Ok(())
    }

    /// From the last block to the first: what is left, if one cannot be removed, still has its first.
    pub(super) fn delete(&mut self, set: u32, blocks: u32) -> Result<(), TableFailure> {
        for block in (0..blocks).rev() {
            fault(self.name)?;
            removed(self.name, self.blocks.remove(&TableKey { set, block }))?;
        }
        Ok(())
    }

    /// The first slot of each set that has a table, and how many blocks that has.
    pub(super) fn read(&self) -> Result<BTreeMap<u32, u32>, TableFailure> {
        let mut tables = BTreeMap::new();
        for key in self.blocks.keys() {
            let TableKey { set, block } = key.map_err(read_failure(self.name))?;
            let blocks = tables.entry(set).or_insert(0);
            *blocks = block.saturating_add(1).max(*blocks);
        }
        Ok(tables)
    }
}
