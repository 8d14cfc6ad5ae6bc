//! The flow filter (`lb_common::abi::filter`): the data path only adds to it, so now and then a half is made anew.
//!
//! The data path notes each new flow in both halves and asks the one that is complete. The other half is emptied after a
//! sweep; from then on it has all that is new. The next sweep adds what was there before, and then that half is complete.

use std::path::Path;

use aya::Pod;
use aya::maps::{Array, MapData};
use lb_common::abi::filter::{CELLS, Cells, FLOW_BLOCKS, cell, flow_hash, is_noted};
use lb_common::abi::{FlowKey, lately, map_name};

use super::address::MapAddress;
use super::failure::TableFailure;
use super::mapped::MappedArray;
use super::pins::{fault, open, read_failure, write_failure};

/// One family's filter, as the sweep has it.
pub(super) struct FlowFilter {
    cells: MappedArray<Cells>,
    lately: Array<MapData, u32>,
    /// Where `lately` says which half is complete.
    complete_at: u32,
    /// The half that is being made, 1 or 2.
    making: u32,
}

impl FlowFilter {
    /// Opens it and empties the half that is not in use. What is noted from now on is in it.
    pub(super) fn prepare<A: MapAddress>(dir: &Path) -> Result<Self, TableFailure> {
        let family = usize::from(A::IS_V6);
        let cells = MappedArray::open(dir, map_name::FLOW_FILTER[family])?;
        let complete_at = lately::FLOW_FILTER + u32::from(A::IS_V6);
        let mut filter = Self { cells, lately: open(dir, map_name::LATELY)?, complete_at, making: 1 };
        filter.empty_other()?;
        Ok(filter)
    }

    fn empty_other(&mut self) -> Result<(), TableFailure> {
        let complete = self.lately.get(&self.complete_at, 0).map_err(read_failure(map_name::LATELY))?;
        self.making = if complete == 1 { 2 } else { 1 };
        let first = self.first_block();
        (first..first + FLOW_BLOCKS).try_for_each(|block| self.cells.set(block, [0; CELLS]))
    }

    const fn first_block(&self) -> u32 {
        (self.making - 1) * FLOW_BLOCKS
    }

    /// An entry of a flow table.
    pub(super) fn add<A: MapAddress>(&mut self, key: &FlowKey<A>, kind: u8) -> Result<(), TableFailure>
    where
        FlowKey<A>: Pod,
    {
        if !is_noted(kind) {
            return Ok(());
        }
        let (block, cell) = cell(flow_hash(key));
        self.cells.set_byte(self.first_block() + block, cell, 1)
    }

    /// All entries were added: this half is asked from now on, and the other one is made next.
    pub(super) fn complete(&mut self) -> Result<(), TableFailure> {
        fault(map_name::LATELY)?;
        let written = self.lately.set(self.complete_at, self.making, 0);
        written.map_err(|source| write_failure(map_name::LATELY, source))?;
        self.empty_other()
    }
}
