//! Service maps in memory, with limits like the kernel's, for tests.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::abi::{FrontendValue, OutlierValue, SetRef, StatusValue, TABLE_BLOCK};

use super::failure::TableFailure;
use super::filters::LiveFlows;
use super::tables::{AgentTables, BackendMarks, FamilySettings, Marked, PinnedFacts, Tables};
use crate::model::family::{Family, PerFamily};
use crate::plan::{BackendEntry, Existing, Limits, Op, Vip};

/// What the kernel would hold.
#[derive(Clone, Debug)]
pub struct MemoryTables {
    /// Names.
    pub names: BTreeMap<u32, (Family, String)>,
    /// Backends.
    pub backends: BTreeMap<(Family, u32), BackendEntry>,
    /// Slots.
    pub slots: BTreeMap<(Family, u32), u32>,
    /// Tables, by the set's first slot.
    pub tables: BTreeMap<(Family, u32), Box<[u8]>>,
    /// Source ranges.
    pub ranges: BTreeSet<(u32, IpNet)>,
    /// Frontends.
    pub frontends: BTreeMap<Vip, FrontendValue>,
    /// Existing state for which there is no table here.
    pub rest: Existing,
    /// Room.
    pub limits: Limits,
    /// Room for frontends.
    pub frontend_limit: usize,
    /// Operations carried out.
    pub writes: usize,
    /// The agent's state.
    pub status: StatusValue,
    /// The agent's report.
    pub report: String,
    /// Times that settings, state or report were written.
    pub other_writes: usize,
    /// Marks of backends.
    pub marks: BTreeMap<(Family, u32), Marked>,
    /// What is counted of backends.
    pub outcomes: BTreeMap<(Family, u32), OutlierValue>,
    /// Changes when a backend goes silent or comes back.
    pub signs: u64,
    /// Settings of the data path.
    pub settings: PerFamily<FamilySettings>,
}

impl MemoryTables {
    /// Empty tables with this much room.
    pub fn new(limits: Limits) -> Self {
        Self {
            names: BTreeMap::new(),
            backends: BTreeMap::new(),
            slots: BTreeMap::new(),
            tables: BTreeMap::new(),
            ranges: BTreeSet::new(),
            frontends: BTreeMap::new(),
            rest: Existing::default(),
            limits,
            frontend_limit: usize::MAX,
            writes: 0,
            status: StatusValue::default(),
            report: String::new(),
            other_writes: 0,
            marks: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            signs: 0,
            settings: PerFamily::default(),
        }
    }
}

impl Tables for MemoryTables {
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure> {
        self.writes += 1;
        match op {
            Op::ReserveGenerations(next) => self.rest.next_generation = *next,
            Op::SetVipRange(family, range) => self.rest.vip_range[*family] = *range,
            Op::PutName { service, family, name } => {
                assert!(self.names.len() < self.limits.services as usize);
                self.names.insert(*service, (*family, name.clone()));
            }
            Op::PutBackend(family, id, entry) => {
                assert!(*id > 0 && *id < self.limits.backends[*family], "backend id {id} outside of the array");
                assert!(entry.generation > 0 && entry.generation < self.rest.next_generation);
                self.backends.insert((*family, *id), *entry);
            }
            Op::PutSlots { family, base, ids } => {
                for (slot, id) in (*base..).zip(ids) {
                    assert!(slot < self.limits.slots[*family], "slot {slot} outside of the array");
                    self.slots.insert((*family, slot), *id);
                }
            }
            Op::PutTable { family, set, bytes } => {
                self.tables.insert((*family, *set), bytes.clone());
                let of_family = self.tables.iter().filter(|((of, _), _)| of == family);
                let blocks: usize = of_family.map(|(_, bytes)| bytes.len().div_ceil(TABLE_BLOCK)).sum();
                assert!(blocks <= self.limits.blocks[*family] as usize, "{blocks} blocks of tables");
            }
            Op::DeleteTable(family, set, blocks) => {
                let gone = self.tables.remove(&(*family, *set)).unwrap_or_default();
                assert!(gone.is_empty() || gone.len().div_ceil(TABLE_BLOCK) == *blocks as usize);
            }
            Op::PutRange(service, net) => {
                self.ranges.insert((*service, *net));
            }
            Op::PutFrontend(vip, value) => {
                if self.frontends.len() >= self.frontend_limit && !self.frontends.contains_key(vip) {
                    return Err(TableFailure::Full { map: "FRONTENDS4" });
                }
                self.frontends.insert(*vip, *value);
            }
            Op::DeleteFrontend(vip) => {
                self.frontends.remove(vip);
            }
            Op::DeleteRange(service, net) => {
                self.ranges.remove(&(*service, *net));
            }
            Op::DeleteBackend(family, id) => {
                self.backends.remove(&(*family, *id));
            }
            Op::DeleteName(service) => {
                self.names.remove(service);
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Existing, TableFailure> {
        let mut existing = self.rest.clone();
        existing.names = self.names.iter().map(|(id, (family, name))| (*id, *family, name.clone())).collect();
        existing.backends = self.backends.iter().map(|((family, id), entry)| (*family, *id, *entry)).collect();
        existing.frontends = self.frontends.iter().map(|(vip, value)| (*vip, *value)).collect();
        let blocks = |bytes: &[u8]| u32::try_from(bytes.len().div_ceil(TABLE_BLOCK)).unwrap_or(u32::MAX);
        existing.tables = self.tables.iter().map(|((family, set), bytes)| (*family, *set, blocks(bytes))).collect();
        existing.ranges = self.ranges.iter().copied().collect();
        for (vip, value) in &self.frontends {
            for set in [value.internal, value.external] {
                let known = existing.sets.iter().any(|(family, s, _)| (*family, *s) == (vip.family(), set));
                if set.count > 0 && !known {
                    existing.sets.push((vip.family(), set, self.ids(vip.family(), set)));
                }
            }
        }
        Ok(existing)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn settle(&mut self, _live: &LiveFlows) -> Result<(), TableFailure> {
        Ok(())
    }

    fn configure(&mut self, family: Family, settings: &FamilySettings) -> Result<(), TableFailure> {
        self.other_writes += 1;
        self.settings[family] = settings.clone();
        Ok(())
    }
}

impl MemoryTables {
    fn mark(&mut self, family: Family, id: u32, generation: u32) -> Option<&mut Marked> {
        let known = self.backends.get(&(family, id)).is_some_and(|known| known.generation == generation);
        let blank = Marked { family, id, generation, silent: 0, rest: 0 };
        let mark = known.then(|| self.marks.entry((family, id)).or_insert(blank))?;
        if mark.generation != generation {
            *mark = blank;
        }
        Some(mark)
    }
}

impl BackendMarks for MemoryTables {
    fn marked(&self) -> Result<Vec<Marked>, TableFailure> {
        Ok(self.marks.values().filter(|mark| mark.silent != 0 || mark.rest != 0).copied().collect())
    }

    fn silence_signs(&self) -> Result<u64, TableFailure> {
        Ok(self.signs)
    }

    fn silent(&self, family: Family, id: u32, generation: u32) -> Result<Option<u16>, TableFailure> {
        let mark = self.marks.get(&(family, id)).filter(|mark| mark.generation == generation);
        Ok(mark.map(|mark| mark.silent).filter(|silent| *silent != 0))
    }

    fn set_silent(&mut self, family: Family, id: u32, generation: u32, silent: u16) -> Result<(), TableFailure> {
        self.mark(family, id, generation).into_iter().for_each(|mark| mark.silent = silent);
        Ok(())
    }

    fn set_rest(&mut self, family: Family, id: u32, generation: u32, rest: u16) -> Result<(), TableFailure> {
        self.mark(family, id, generation).into_iter().for_each(|mark| mark.rest = rest);
        Ok(())
    }

    fn outcomes(&mut self, family: Family, id: u32, generation: u32) -> Result<OutlierValue, TableFailure> {
        let Some(cell) = self.outcomes.get_mut(&(family, id)).filter(|cell| cell.generation == generation) else {
            return Ok(OutlierValue::default());
        };
        let found = *cell;
        (cell.clients, cell.failing) = (0, 0);
        Ok(found)
    }
}

impl AgentTables for MemoryTables {
    fn status(&self) -> Result<StatusValue, TableFailure> {
        Ok(self.status)
    }

    fn pinned_facts(&self) -> Result<PinnedFacts, TableFailure> {
        let PerFamily { v4, v6 } = &self.settings;
        Ok(PinnedFacts {
            node: [v4.node, v6.node].into_iter().flatten().collect(),
            cluster: [&*v4.cluster, &*v6.cluster].concat(),
            services: [&*v4.services, &*v6.services].concat(),
        })
    }

    fn update_status(&mut self, change: impl FnOnce(&mut StatusValue)) -> Result<(), TableFailure> {
        self.other_writes += 1;
        change(&mut self.status);
        Ok(())
    }

    fn set_report(&mut self, json: &str) -> Result<(), TableFailure> {
        self.other_writes += 1;
        json.clone_into(&mut self.report);
        Ok(())
    }
}

impl MemoryTables {
    /// Backend ids of a set.
    pub fn ids(&self, family: Family, set: SetRef) -> Box<[u32]> {
        let end = set.base.saturating_add(set.count).min(self.limits.slots[family]);
        (set.base..end).map(|slot| self.slots.get(&(family, slot)).copied().unwrap_or(0)).collect()
    }
}
