//! The Service maps of the kernel, opened from their pins.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use lb_common::abi::{ABI_VERSION, NAME_LEN, NameValue, REPORT_LEN, ReportValue, StatusValue, V4, V6, map_name};

use super::batch;
use super::causes::{Cause, Causes};
use super::failure::TableFailure;
use super::family_tables::FamilyTables;
use super::filters::LiveFlows;
use super::pins::{fault, open, open_raw, read_failure, removed, write_failure};
use super::tables::{AgentTables, FamilySettings, PinnedFacts, Tables};
use super::traffic::{Totals, Traffic};
use crate::model::family::{Family, PerFamily};
use crate::plan::{Existing, Limits, Op};

/// Names read in one system call.
const NAMES_AT_ONCE: usize = 512;

/// Evaluates an expression with the tables of a family: both have the same methods, the type differs.
macro_rules! of_family {
    ($tables:expr, $family:expr, $table:ident => $call:expr) => {
        match $family {
            Family::V4 => {
                let $table = &mut $tables.v4;
                $call
            }
            Family::V6 => {
                let $table = &mut $tables.v6;
                $call
            }
        }
    };
}
pub(super) use of_family;

/// The pinned maps below one pin path.
pub struct KernelTables {
    pub(super) v4: FamilyTables<V4>,
    pub(super) v6: FamilyTables<V6>,
    names: HashMap<MapData, u32, NameValue>,
    /// The same map, for reading in batches.
    names_raw: MapData,
    status: Array<MapData, StatusValue>,
    report: Array<MapData, ReportValue>,
    totals: Totals,
    causes: Causes,
    pub(super) counters: PerCpuArray<MapData, u64>,
    name_limit: u32,
}

impl KernelTables {
    /// Opens `<pin_path>/maps/*`. Pins of another ABI version are refused.
    pub fn open(pin_path: &Path) -> Result<Self, TableFailure> {
        let dir = pin_path.join("maps");
        let status: Array<_, StatusValue> = open(&dir, map_name::STATUS)?;
        let found = status.get(&0, 0).map_err(read_failure(map_name::STATUS))?.abi;
        if found != 0 && found != ABI_VERSION {
            return Err(TableFailure::ForeignAbi { found, ours: ABI_VERSION });
        }
        Ok(Self {
            v4: FamilyTables::open(&dir)?,
            v6: FamilyTables::open(&dir)?,
            names: open(&dir, map_name::NAMES)?,
            names_raw: open_raw(&dir, map_name::NAMES)?,
            status,
            report: open(&dir, map_name::REPORT)?,
            totals: Totals::open(&dir)?,
            causes: Causes::open(&dir)?,
            counters: open(&dir, map_name::COUNTERS)?,
            name_limit: super::observe::capacity(&dir, map_name::NAMES)?,
        })
    }

    /// The agent's state.
    pub fn status(&self) -> Result<StatusValue, TableFailure> {
        self.status.get(&0, 0).map_err(read_failure(map_name::STATUS))
    }

    /// Changes the agent's state.
    pub fn update_status(&mut self, change: impl FnOnce(&mut StatusValue)) -> Result<(), TableFailure> {
        let mut status = self.status()?;
        change(&mut status);
        status.abi = ABI_VERSION;
        fault(map_name::STATUS)?;
        let written = self.status.set(0, status, 0);
        written.map_err(|source| write_failure(map_name::STATUS, source))
    }

    /// The agent's last report, JSON.
    pub fn report(&self) -> Result<String, TableFailure> {
        let value = self.report.get(&0, 0).map_err(read_failure(map_name::REPORT))?;
        let len = usize::try_from(value.len).unwrap_or(0).min(REPORT_LEN);
        Ok(String::from_utf8_lossy(&value.json[..len]).into_owned())
    }

    #[allow(clippy::large_stack_arrays, reason = "the report is one value of the map; 64 KiB fit every stack here")]
    /// Writes the agent's report; longer than [`REPORT_LEN`] is refused as a full map.
    pub fn set_report(&mut self, json: &str) -> Result<(), TableFailure> {
        let mut value = ReportValue { len: 0, pad: 0, json: [0; REPORT_LEN] };
        let room = value.json.get_mut(..json.len()).ok_or(TableFailure::Full { map: map_name::REPORT })?;
        room.copy_from_slice(json.as_bytes());
        value.len = u32::try_from(json.len()).unwrap_or(0);
        fault(map_name::REPORT)?;
        self.report.set(0, value, 0).map_err(|source| write_failure(map_name::REPORT, source))
    }

    /// No new connection is led anywhere from now on; those that have begun go on.
    pub fn leave_services(&mut self) -> Result<(), TableFailure> {
        // First addresses without a Service are nobody's any more, else one that is about to go would be refused for a moment.
        self.v4.leave_services()?;
        self.v6.leave_services()?;
        for (vip, _) in self.read()?.frontends {
            self.apply(&Op::DeleteFrontend(vip))?;
        }
        Ok(())
    }

    /// Names alone.
    pub fn read_names(&self) -> Result<Existing, TableFailure> {
        let mut existing = Existing { next_generation: self.status()?.next_generation, ..Existing::default() };
        self.each_name(|id, family, name| existing.names.push((id, family, name)))?;
        Ok(existing)
    }

    fn each_name(&self, mut each: impl FnMut(u32, Family, String)) -> Result<(), TableFailure> {
        self.walk_names(|id, value| {
            let family = if value.family == 6 { Family::V6 } else { Family::V4 };
            let len = usize::try_from(value.len).unwrap_or(0).min(NAME_LEN);
            each(id, family, String::from_utf8_lossy(&value.name[..len]).into_owned());
        })
    }

    fn walk_names(&self, mut each: impl FnMut(u32, &NameValue)) -> Result<(), TableFailure> {
        let walked = batch::walk::<u32, NameValue>(self.names_raw.fd().as_fd(), NAMES_AT_ONCE, |ids, values| {
            for (id, value) in ids.iter().zip(values) {
                each(*id, value);
            }
            ControlFlow::Continue(())
        });
        walked.map_err(|source| TableFailure::Batch { map: map_name::NAMES, source })
    }

    /// Names and backends, without what leads to them.
    pub fn read_owners(&self) -> Result<Existing, TableFailure> {
        let mut existing = self.read_names()?;
        self.v4.read_backends(&mut existing)?;
        self.v6.read_backends(&mut existing)?;
        Ok(existing)
    }

    /// What was counted for these backends and service ports.
    pub fn traffic(&self, existing: &Existing) -> Result<Traffic, TableFailure> {
        let mut traffic = Traffic::default();
        self.v4.traffic(existing, &mut traffic)?;
        self.v6.traffic(existing, &mut traffic)?;
        self.totals.read(existing, &mut traffic)?;
        Ok(traffic)
    }

    /// Why clients of service ports got nothing.
    pub fn causes(&self) -> Result<Vec<Cause>, TableFailure> {
        self.causes.read()
    }

    /// When each service port was first written, by service id, in nanoseconds since the epoch; 0: not known.
    pub fn since(&self) -> Result<BTreeMap<u32, u64>, TableFailure> {
        let mut since = BTreeMap::new();
        self.walk_names(|id, value| {
            since.insert(id, value.since_ns);
        })?;
        Ok(since)
    }

    fn put_name(&mut self, service: u32, family: Family, name: &str) -> Result<(), TableFailure> {
        let bytes = name.as_bytes();
        let len = bytes.len().min(NAME_LEN);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut value = NameValue {
            len: u32::try_from(len).unwrap_or(0),
            family: if family == Family::V6 { 6 } else { 4 },
            name: [0; NAME_LEN],
            since_ns: u64::try_from(now).unwrap_or(0),
        };
        value.name[..len].copy_from_slice(&bytes[..len]);
        fault(map_name::NAMES)?;
        self.names.insert(service, value, 0).map_err(|source| write_failure(map_name::NAMES, source))
    }
}

impl Tables for KernelTables {
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure> {
        match op {
            Op::ReserveGenerations(next) => self.update_status(|status| status.next_generation = *next),
            Op::SetVipRange(family, range) => of_family!(self, family, t => t.set_vip_range(*range)),
            Op::PutName { service, family, name } => self.put_name(*service, *family, name),
            Op::PutBackend(family, id, entry) => of_family!(self, family, t => t.put_backend(*id, entry)),
            Op::PutSlots { family, base, ids } => of_family!(self, family, t => t.put_slots(*base, ids)),
            Op::PutTable { family, set, bytes } => of_family!(self, family, t => t.tables().put(*set, bytes)),
            Op::DeleteTable(family, set, blocks) => of_family!(self, family, t => t.tables().delete(*set, *blocks)),
            Op::PutRange(service, net) => {
                of_family!(self, Family::of(&net.network()), t => t.put_range(*service, net))
            }
            Op::PutFrontend(vip, value) => of_family!(self, vip.family(), t => t.put_frontend(vip, value)),
            Op::DeleteFrontend(vip) => of_family!(self, vip.family(), t => t.delete_frontend(vip)),
            Op::DeleteRange(service, net) => {
                of_family!(self, Family::of(&net.network()), t => t.delete_range(*service, net))
            }
            Op::DeleteBackend(family, id) => {
                // Added before the cell is emptied: a sum that is too small would look like a restart to who watches it.
                let (service, counted) = of_family!(self, family, t => t.counted(*id))?;
                self.totals.add(service, &counted)?;
                of_family!(self, family, t => t.delete_backend(*id))
            }
            Op::DeleteName(service) => {
                self.totals.remove(*service)?;
                fault(map_name::NAMES)?;
                self.causes.remove(*service)?;
                removed(map_name::NAMES, self.names.remove(service))
            }
        }
    }

    fn read(&self) -> Result<Existing, TableFailure> {
        let mut existing = self.read_names()?;
        self.v4.read(&mut existing)?;
        self.v6.read(&mut existing)?;
        Ok(existing)
    }

    fn limits(&self) -> Limits {
        Limits {
            services: self.name_limit,
            backends: PerFamily { v4: self.v4.backend_count(), v6: self.v6.backend_count() },
            slots: PerFamily { v4: self.v4.slot_count(), v6: self.v6.slot_count() },
            blocks: PerFamily { v4: self.v4.block_count(), v6: self.v6.block_count() },
        }
    }

    fn settle(&mut self, live: &LiveFlows) -> Result<(), TableFailure> {
        self.v4.settle(live.since, &live.ends[Family::V4])?;
        self.v6.settle(live.since, &live.ends[Family::V6])
    }

    fn configure(&mut self, family: Family, settings: &FamilySettings) -> Result<(), TableFailure> {
        match family {
            Family::V4 => self.v4.configure(settings),
            Family::V6 => self.v6.configure(settings),
        }
    }
}

impl AgentTables for KernelTables {
    fn status(&self) -> Result<StatusValue, TableFailure> {
        Self::status(self)
    }

    fn pinned_facts(&self) -> Result<PinnedFacts, TableFailure> {
        let mut facts = PinnedFacts::default();
        self.v4.add_facts(&mut facts)?;
        self.v6.add_facts(&mut facts)?;
        Ok(facts)
    }

    fn update_status(&mut self, change: impl FnOnce(&mut StatusValue)) -> Result<(), TableFailure> {
        Self::update_status(self, change)
    }

    fn set_report(&mut self, json: &str) -> Result<(), TableFailure> {
        Self::set_report(self, json)
    }
}

impl std::fmt::Debug for KernelTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelTables").finish_non_exhaustive()
    }
}
