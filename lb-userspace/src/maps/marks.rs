//! What is noted of backends that behave oddly: silent ones, and those that outlier ejection judges.

use std::mem::offset_of;

use aya::Pod;
use lb_common::abi::{BackendValue, Counter, FamilyConfig, FrontendKey, OutlierValue, SourceRangeKey, rest};

use super::address::MapAddress;
use super::failure::TableFailure;
use super::family_tables::FamilyTables;
use super::kernel::{KernelTables, of_family};
use super::observe::sum;
use super::tables::{BackendMarks, Marked};
use crate::model::family::Family;

/// Counters that change when a backend goes silent or comes back.
const SIGNS: [Counter; 2] = [Counter::BackendSilent, Counter::BackendBack];

impl<A> FamilyTables<A>
where
    A: MapAddress + std::hash::Hash + 'static,
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    SourceRangeKey<A>: Pod,
    FamilyConfig<A>: Pod,
{
    fn marked(&self, into: &mut Vec<Marked>) -> Result<(), TableFailure> {
        self.walk_backends(|id, &BackendValue { generation, silent, rest, .. }| {
            if silent != 0 || rest != rest::OFF {
                into.push(Marked { family: A::FAMILY, id, generation, silent, rest });
            }
        })
    }

    /// The backend of this generation, if its id is still its own.
    fn of(&self, id: u32, generation: u32) -> Result<Option<BackendValue<A>>, TableFailure> {
        Ok(self.backends.get(id)?.filter(|known| known.generation == generation && generation != 0))
    }

    fn silent(&self, id: u32, generation: u32) -> Result<Option<u16>, TableFailure> {
        Ok(self.of(id, generation)?.map(|known| known.silent).filter(|silent| *silent != 0))
    }

    fn set_silent(&mut self, id: u32, generation: u32, silent: u16) -> Result<(), TableFailure> {
        match self.of(id, generation)? {
            Some(_) => self.backends.set_part(id, offset_of!(BackendValue<A>, silent), silent),
            None => Ok(()),
        }
    }

    fn set_rest(&mut self, id: u32, generation: u32, rest: u16) -> Result<(), TableFailure> {
        if self.of(id, generation)?.is_none() {
            return Ok(());
        }
        // An id beyond the cells is not judged, and looks like a backend that fails nothing.
        if rest != rest::OFF && self.outliers.get(id)?.is_some_and(|cell| cell.generation != generation) {
            self.outliers.set(id, OutlierValue { generation, ..OutlierValue::default() })?;
        }
        self.backends.set_part(id, offset_of!(BackendValue<A>, rest), rest)
    }

    fn outcomes(&mut self, id: u32, generation: u32) -> Result<OutlierValue, TableFailure> {
        let Some(cell) = self.outliers.get(id)?.filter(|cell| cell.generation == generation) else {
            return Ok(OutlierValue::default());
        };
        if cell.clients | cell.failing != 0 {
            self.outliers.set_part(id, offset_of!(OutlierValue, clients), 0_u64)?;
            self.outliers.set_part(id, offset_of!(OutlierValue, failing), 0_u64)?;
        }
        Ok(cell)
    }
}

impl BackendMarks for KernelTables {
    fn marked(&self) -> Result<Vec<Marked>, TableFailure> {
        let mut marked = Vec::new();
        self.v4.marked(&mut marked)?;
        self.v6.marked(&mut marked)?;
        Ok(marked)
    }

    fn silence_signs(&self) -> Result<u64, TableFailure> {
        // Maps of an agent that did not count these have not as many.
        let signs = SIGNS.into_iter().filter(|sign| sign.index() < self.counters.len());
        signs.map(|sign| sum(&self.counters, sign)).try_fold(0_u64, |all, of_sign| Ok(all.wrapping_add(of_sign?)))
    }

    fn silent(&self, family: Family, id: u32, generation: u32) -> Result<Option<u16>, TableFailure> {
        match family {
            Family::V4 => self.v4.silent(id, generation),
            Family::V6 => self.v6.silent(id, generation),
        }
    }

    fn set_silent(&mut self, family: Family, id: u32, generation: u32, silent: u16) -> Result<(), TableFailure> {
        of_family!(self, family, table => table.set_silent(id, generation, silent))
    }

    fn set_rest(&mut self, family: Family, id: u32, generation: u32, rest: u16) -> Result<(), TableFailure> {
        of_family!(self, family, table => table.set_rest(id, generation, rest))
    }

    fn outcomes(&mut self, family: Family, id: u32, generation: u32) -> Result<OutlierValue, TableFailure> {
        of_family!(self, family, table => table.outcomes(id, generation))
    }
}
