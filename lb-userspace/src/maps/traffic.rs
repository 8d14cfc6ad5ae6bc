//! What the data path counts for backends: the only writer and reader of `STATS4`/`STATS6` and `TOTALS`.
//!
//! A backend's cells begin empty with its generation. When it goes, what they hold is added to its service port's
//! total, so that a service port's numbers never go back as long as its id lives.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::abi::{StatsValue, map_name};

use super::failure::TableFailure;
use super::pins::{open, read_failure, removed, write_failure};
use crate::model::desired::Family;
use crate::plan::Existing;

/// What was counted since each backend and service port exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// By service id, backends that are gone included.
    services: BTreeMap<u32, StatsValue>,
    /// By backend id. A backend whose id is beyond the map is not counted.
    backends: BTreeMap<(Family, u32), StatsValue>,
}

impl Traffic {
    /// A service port's.
    pub fn service(&self, id: u32) -> StatsValue {
        self.services.get(&id).copied().unwrap_or_default()
    }

    /// A backend's; `None`: it is not counted.
    pub fn backend(&self, family: Family, id: u32) -> Option<StatsValue> {
        self.backends.get(&(family, id)).copied()
    }

    /// Adds a backend's to itself and its service port.
    pub fn add(&mut self, family: Family, id: u32, service: u32, counted: &StatsValue) {
        self.backends.insert((family, id), *counted);
        let total = self.services.entry(service).or_default();
        *total = total.plus(counted);
    }
}

/// One family's cells.
pub(super) struct Cells {
    map: PerCpuArray<MapData, StatsValue>,
    name: &'static str,
    cpus: usize,
}

impl Cells {
    pub(super) fn open(dir: &Path, name: &'static str) -> Result<Self, TableFailure> {
        let cpus = nr_cpus().map_err(|(_, error)| read_failure(name)(MapError::IoError(error)))?;
        Ok(Self { map: open(dir, name)?, name, cpus })
    }

    /// Whether this id has cells.
    fn counts(&self, id: u32) -> bool {
        id < self.map.len()
    }

    fn cells(&self, id: u32) -> Result<PerCpuValues<StatsValue>, TableFailure> {
        self.map.get(&id, 0).map_err(read_failure(self.name))
    }

    fn fill(&mut self, id: u32, generation: u32) -> Result<(), TableFailure> {
        let empty = StatsValue { generation, ..StatsValue::default() };
        let failure = |source| write_failure(self.name, source);
        let cells =
            PerCpuValues::try_from(vec![empty; self.cpus]).map_err(|error| failure(MapError::IoError(error)))?;
        self.map.set(id, cells, 0).map_err(failure)
    }

    /// Counts for this generation from now on; goes on where it does already.
    pub(super) fn begin(&mut self, id: u32, generation: u32) -> Result<(), TableFailure> {
        if !self.counts(id) || self.cells(id)?.iter().all(|cell| cell.generation == generation) {
            return Ok(());
        }
        self.fill(id, generation)
    }

    /// What was counted for a generation.
    pub(super) fn read(&self, id: u32, generation: u32) -> Result<Option<StatsValue>, TableFailure> {
        if !self.counts(id) {
            return Ok(None);
        }
        let cells = self.cells(id)?;
        let own = cells.iter().filter(|cell| cell.generation == generation);
        Ok(Some(own.fold(StatsValue::default(), |sum, cell| sum.plus(cell))))
    }

    /// Counts no more. Returns what was counted.
    pub(super) fn end(&mut self, id: u32, generation: u32) -> Result<StatsValue, TableFailure> {
        let counted = self.read(id, generation)?.unwrap_or_default();
        if self.counts(id) {
            self.fill(id, 0)?;
        }
        Ok(counted)
    }
}

/// What was counted for backends that are gone, by service id.
pub(super) struct Totals(HashMap<MapData, u32, StatsValue>);

impl Totals {
    pub(super) fn open(dir: &Path) -> Result<Self, TableFailure> {
        Ok(Self(open(dir, map_name::TOTALS)?))
    }

    pub(super) fn get(&self, service: u32) -> Result<StatsValue, TableFailure> {
        match self.0.get(&service, 0) {
            Err(MapError::KeyNotFound) => Ok(StatsValue::default()),
            found => found.map_err(read_failure(map_name::TOTALS)),
        }
    }

    pub(super) fn add(&mut self, service: u32, counted: &StatsValue) -> Result<(), TableFailure> {
        if counted.is_empty() {
            return Ok(());
        }
        let total = self.get(service)?.plus(counted);
        self.0.insert(service, total, 0).map_err(|source| write_failure(map_name::TOTALS, source))
    }

    pub(super) fn remove(&mut self, service: u32) -> Result<(), TableFailure> {
        removed(map_name::TOTALS, self.0.remove(&service))
    }

    pub(super) fn read(&self, existing: &Existing, into: &mut Traffic) -> Result<(), TableFailure> {
        for (service, ..) in &existing.names {
            let total = into.services.entry(*service).or_default();
            *total = total.plus(&self.get(*service)?);
        }
        Ok(())
    }
}
