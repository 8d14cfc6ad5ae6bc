//! Brings the judge what was counted, and its verdicts into the maps.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lb_common::abi::rest;

use super::judge::{ON_PROBATION, Record, Sample, State, Verdict, step};
use super::{Key, looked, told};
use crate::events::Event;
use crate::maps::{BackendMarks, TableFailure};
use crate::model::desired::{Change, ServiceName};
use crate::model::ejection::EjectionSettings;
use crate::model::family::Family;
use crate::plan::{PlacedBackend, Planner};

/// One backend's numbers so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    answered: u64,
    failed: u64,
}

/// One service port's backends.
#[derive(Debug, Default)]
struct Set {
    records: BTreeMap<Key, Record>,
    counted: BTreeMap<Key, Counted>,
}

/// All backends that are judged.
#[derive(Debug, Default)]
pub struct Outliers {
    wanted: HashMap<ServiceName, EjectionSettings>,
    sets: BTreeMap<(Family, u32), Set>,
    /// What a former agent has left in the maps; none: not read yet.
    found: Option<HashMap<Key, u16>>,
    /// Ejections so far.
    ejections: u64,
}

/// How things are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Ejections so far.
    pub ejections: u64,
    /// Backends that rest now, or are on probation.
    pub resting: usize,
}

impl Outliers {
    /// These changes are written.
    pub fn heard(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Upsert(service) => {
                    match service.ports.iter().find_map(|port| port.ejection.settings()) {
                        Some(settings) => self.wanted.insert(service.name.clone(), *settings),
                        None => self.wanted.remove(&service.name),
                    };
                }
                Change::Remove(name) => _ = self.wanted.remove(name),
            }
        }
    }

    /// Looks at what was counted. Gives what there is to tell.
    pub fn look(&mut self, tables: &mut impl BackendMarks, planner: &Planner, now: Duration) -> Vec<Event> {
        looked(self.try_to_look(tables, planner, now), "outlier ejection cannot be carried out")
    }

    /// How things are.
    pub fn totals(&self) -> Totals {
        let records = self.sets.values().flat_map(|set| set.records.values());
        Totals { ejections: self.ejections, resting: records.filter(|record| record.state != State::Serving).count() }
    }

    fn try_to_look(
        &mut self,
        tables: &mut impl BackendMarks,
        planner: &Planner,
        now: Duration,
    ) -> Result<Vec<Event>, TableFailure> {
        let mut found = match self.found.take() {
            Some(found) => found,
            None => left(tables)?,
        };
        let (mut events, mut before) = (Vec::new(), std::mem::take(&mut self.sets));
        for (name, settings) in &self.wanted {
            let mut ports: BTreeMap<(Family, u32), Vec<PlacedBackend>> = BTreeMap::new();
            for backend in planner.tcp_backends(name) {
                ports.entry((backend.family, backend.service)).or_default().push(backend);
            }
            for (port, members) in ports {
                let set = self.sets.entry(port).or_insert(before.remove(&port).unwrap_or_default());
                set.admit(tables, &members, &mut found, now, settings)?;
                for (key, verdict) in set.judge(tables, now, settings)? {
                    let Some(backend) = members.iter().find(|backend| key_of(backend) == key) else { continue };
                    self.ejections += u64::from(matches!(verdict, Verdict::Ejected(..)));
                    events.extend(event(name, backend, verdict));
                }
            }
        }
        // Nobody judges these any more.
        let gone = before.values().flat_map(|set| set.records.keys());
        for (family, id, generation) in gone.chain(found.keys()) {
            tables.set_rest(*family, *id, *generation, rest::OFF)?;
        }
        self.found = Some(HashMap::new());
        Ok(events)
    }
}

/// What a former agent has marked.
fn left(tables: &impl BackendMarks) -> Result<HashMap<Key, u16>, TableFailure> {
    let marked = tables.marked()?.into_iter().filter(|mark| mark.rest != rest::OFF);
    Ok(marked.map(|mark| ((mark.family, mark.id, mark.generation), mark.rest)).collect())
}

const fn key_of(backend: &PlacedBackend) -> Key {
    (backend.family, backend.id, backend.generation)
}

impl Set {
    /// These are the backends now.
    fn admit(
        &mut self,
        tables: &mut impl BackendMarks,
        members: &[PlacedBackend],
        found: &mut HashMap<Key, u16>,
        now: Duration,
        settings: &EjectionSettings,
    ) -> Result<(), TableFailure> {
        let mut records = std::mem::take(&mut self.records);
        for key in members.iter().map(key_of) {
            if let Some(known) = records.remove(&key) {
                self.records.insert(key, known);
                continue;
            }
            let (family, id, generation) = key;
            let state = match found.remove(&key) {
                None | Some(rest::OFF | rest::NONE) => State::Serving,
                Some(rest::EJECTED) => State::Ejected { until: now },
                Some(_) => State::Probation { until: now },
            };
            if state == State::Serving {
                tables.set_rest(family, id, generation, rest::NONE)?;
            }
            let cell = tables.outcomes(family, id, generation)?;
            self.counted.insert(key, Counted { answered: cell.answered, failed: cell.failed });
            self.records.insert(key, Record::found(state, now, settings));
        }
        for (family, id, generation) in records.keys() {
            // Still there, it has no more new connections, and may get some again.
            tables.set_rest(*family, *id, *generation, rest::OFF)?;
        }
        self.counted.retain(|key, _| self.records.contains_key(key));
        Ok(())
    }

    fn judge(
        &mut self,
        tables: &mut impl BackendMarks,
        now: Duration,
        settings: &EjectionSettings,
    ) -> Result<Vec<(Key, Verdict)>, TableFailure> {
        let mut samples = BTreeMap::new();
        for (key, before) in &mut self.counted {
            let cell = tables.outcomes(key.0, key.1, key.2)?;
            let sample = Sample {
                answered: cell.answered.saturating_sub(before.answered),
                failed: cell.failed.saturating_sub(before.failed),
                clients: cell.clients,
                failing: cell.failing,
            };
            *before = Counted { answered: cell.answered, failed: cell.failed };
            samples.insert(*key, sample);
        }
        let verdicts = step(&mut self.records, now, settings, |key| samples.get(&key).copied().unwrap_or_default());
        for ((family, id, generation), verdict) in &verdicts {
            let mark = match verdict {
                Verdict::Ejected(..) => rest::EJECTED,
                Verdict::OnProbation => ON_PROBATION,
                Verdict::Serves => rest::NONE,
            };
            tables.set_rest(*family, *id, *generation, mark)?;
        }
        Ok(verdicts)
    }
}

/// The event of a verdict.
fn event(service: &ServiceName, backend: &PlacedBackend, verdict: Verdict) -> Option<Event> {
    let addr = backend.addr;
    match verdict {
        Verdict::Ejected(rest, Sample { answered, failed, .. }) => {
            let rest = rest.as_secs();
            let note = format!(
                "backend {addr} gets no new connections for {rest} s: it refused or reset {failed} of {answered}, far more \
                 than its fellows"
            );
            Some(told(service, true, "BackendEjected", note))
        }
        Verdict::Serves => {
            Some(told(service, false, "BackendReadmitted", format!("backend {addr} gets new connections again")))
        }
        Verdict::OnProbation => None,
    }
}
