//! What the data path counts for backends: the only writer and reader of `STATS4`/`STATS6` and `TOTALS`.
//!
//! A backend's cell begins empty with its generation. When it goes, what it holds is added to its service port's
//! total, so that a service port's numbers never go back as long as its id lives.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::{HashMap, MapData, MapError};
use lb_common::abi::{StatsValue, map_name};

use super::batch;
use super::failure::TableFailure;
use super::mapped::MappedArray;
use super::pins::{fault, open, open_raw, read_failure, removed, write_failure};
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
pub(super) struct Cells(MappedArray<StatsValue>);

impl Cells {
    pub(super) fn open(dir: &Path, name: &'static str) -> Result<Self, TableFailure> {
        Ok(Self(MappedArray::open(dir, name)?))
    }

    fn empty(generation: u32) -> StatsValue {
        StatsValue { generation, ..StatsValue::default() }
    }

    /// Counts for this generation from now on; goes on where it does already. An id beyond the map is not counted.
    pub(super) fn begin(&mut self, id: u32, generation: u32) -> Result<(), TableFailure> {
        match self.0.get(id)? {
            Some(cell) if cell.generation != generation => self.0.set(id, Self::empty(generation)),
            _ => Ok(()),
        }
    }

    /// What was counted for a generation.
    pub(super) fn read(&self, id: u32, generation: u32) -> Result<Option<StatsValue>, TableFailure> {
        let own = |cell: StatsValue| if cell.generation == generation { cell } else { StatsValue::default() };
        Ok(self.0.get(id)?.map(|cell| StatsValue { generation: 0, ..own(cell) }))
    }

    /// Corrects how many connections are open, while programs count.
    pub(super) fn count_open(&self, id: u32, by: i32) -> Result<(), TableFailure> {
        self.0.add_to_word(id, std::mem::offset_of!(StatsValue, open), by.cast_unsigned())
    }

    /// Counts no more.
    pub(super) fn end(&mut self, id: u32) -> Result<(), TableFailure> {
        if self.0.get(id)?.is_some() { self.0.set(id, Self::empty(0)) } else { Ok(()) }
    }
}

/// What was counted for backends that are gone, by service id.
pub(super) struct Totals {
    table: HashMap<MapData, u32, StatsValue>,
    /// The same map, for reading in batches.
    raw: MapData,
}

/// Entries read in one system call.
const AT_ONCE: usize = 2048;
/// More service ports than this are not looked up one by one.
const FEW: usize = 64;

impl Totals {
    pub(super) fn open(dir: &Path) -> Result<Self, TableFailure> {
        Ok(Self { table: open(dir, map_name::TOTALS)?, raw: open_raw(dir, map_name::TOTALS)? })
    }

    pub(super) fn get(&self, service: u32) -> Result<StatsValue, TableFailure> {
        match self.table.get(&service, 0) {
            Err(MapError::KeyNotFound) => Ok(StatsValue::default()),
            found => found.map_err(read_failure(map_name::TOTALS)),
        }
    }

    pub(super) fn add(&mut self, service: u32, counted: &StatsValue) -> Result<(), TableFailure> {
        if counted.is_empty() {
            return Ok(());
        }
        let total = self.get(service)?.plus(counted);
        fault(map_name::TOTALS)?;
        self.table.insert(service, total, 0).map_err(|source| write_failure(map_name::TOTALS, source))
    }

    pub(super) fn remove(&mut self, service: u32) -> Result<(), TableFailure> {
        fault(map_name::TOTALS)?;
        removed(map_name::TOTALS, self.table.remove(&service))
    }

    pub(super) fn read(&self, existing: &Existing, into: &mut Traffic) -> Result<(), TableFailure> {
        let all = if existing.names.len() > FEW { Some(self.all()?) } else { None };
        for (service, ..) in &existing.names {
            let gone = match &all {
                Some(all) => all.get(service).copied().unwrap_or_default(),
                None => self.get(*service)?,
            };
            let total = into.services.entry(*service).or_default();
            *total = total.plus(&gone);
        }
        Ok(())
    }

    fn all(&self) -> Result<BTreeMap<u32, StatsValue>, TableFailure> {
        let mut all = BTreeMap::new();
        let walked = batch::walk::<u32, StatsValue>(self.raw.fd().as_fd(), AT_ONCE, |services, totals| {
            all.extend(services.iter().copied().zip(totals.iter().copied()));
            ControlFlow::Continue(())
        });
        walked.map_err(|source| TableFailure::Batch { map: map_name::TOTALS, source })?;
        Ok(all)
    }
}
