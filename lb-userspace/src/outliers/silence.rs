//! Tells of silent backends, and asks them whether they are back, so that no connection of a client has to.
//!
//! While a backend does not answer the agent, it is marked as just tried, so that sockets wait. Once in a while it is not:
//! the agent may be kept from a backend that clients reach.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::abi::silent_at;

use super::probe::Probes;
use super::{Key, looked, told};
use crate::events::Event;
use crate::linux::clock;
use crate::maps::{BackendMarks, TableFailure};
use crate::model::desired::{Protocol, ServiceName};
use crate::plan::{PlacedBackend, Planner};

/// Between two probes of one backend.
const EVERY: Duration = Duration::from_secs(2);
/// Of so many probes in a row ...
const ROUND: u32 = 30;
/// ... after so many the rest leave the mark alone, so that a socket tries: ten seconds of a minute.
const PUT_OFF: u32 = 25;

/// A backend that is silent.
#[derive(Debug)]
struct Silent {
    service: ServiceName,
    backend: PlacedBackend,
    since: Duration,
    /// When it was last asked.
    asked: Option<Duration>,
    /// Whether the answer is still to come.
    waits: bool,
    failures: u32,
}

/// All backends that are silent.
#[derive(Debug, Default)]
pub struct SilenceWatch {
    signs: Option<u64>,
    silent: BTreeMap<Key, Silent>,
    probes: Probes<Key>,
}

impl SilenceWatch {
    /// Backends that are silent now.
    pub fn count(&self) -> usize {
        self.silent.len()
    }

    /// Looks at the marks. Gives what there is to tell.
    pub fn look(&mut self, tables: &mut impl BackendMarks, planner: &Planner, now: Duration) -> Vec<Event> {
        looked(self.try_to_look(tables, planner, now), "silent backends cannot be looked at")
    }

    fn try_to_look(
        &mut self,
        tables: &mut impl BackendMarks,
        planner: &Planner,
        now: Duration,
    ) -> Result<Vec<Event>, TableFailure> {
        while let Some((key, answers)) = self.probes.next() {
            self.answered(tables, key, answers)?;
        }
        let mut events = Vec::new();
        let signs = tables.silence_signs()?;
        if self.signs != Some(signs) {
            self.find(tables, planner, now, &mut events)?;
            self.signs = Some(signs);
        }
        let mut back = Vec::new();
        for key in self.silent.keys() {
            if tables.silent(key.0, key.1, key.2)?.is_none() {
                back.push(*key);
            }
        }
        for silent in back.into_iter().filter_map(|key| self.silent.remove(&key)) {
            let secs = now.saturating_sub(silent.since).as_secs();
            let note = format!("backend {} answers again, or is gone, after {secs} s", silent.backend.addr);
            events.push(told(&silent.service, false, "BackendBack", note));
        }
        for (key, silent) in &mut self.silent {
            let is_due = silent.asked.is_none_or(|asked| now >= asked + EVERY);
            // To a frontend's address the connection would be led elsewhere.
            if !silent.waits && is_due && !planner.is_frontend(silent.backend.addr, Protocol::Tcp) {
                silent.waits = self.probes.begin(*key, silent.backend.addr);
                silent.asked = Some(now);
            }
        }
        Ok(events)
    }

    /// A program has marked somebody.
    fn find(
        &mut self,
        tables: &impl BackendMarks,
        planner: &Planner,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Result<(), TableFailure> {
        for mark in tables.marked()?.into_iter().filter(|mark| mark.silent != 0) {
            let key = (mark.family, mark.id, mark.generation);
            // First: whose it is is looked for among all Services.
            if self.silent.contains_key(&key) {
                continue;
            }
            let Some((service, backend)) = planner.owner(mark.family, mark.id) else { continue };
            if backend.generation != mark.generation {
                continue;
            }
            let note = format!(
                "backend {} leaves connections unanswered: new ones pass it over as long as others answer",
                backend.addr
            );
            events.push(told(service, true, "BackendSilent", note));
            let silent =
                Silent { service: service.clone(), backend, since: now, asked: None, waits: false, failures: 0 };
            self.silent.insert(key, silent);
        }
        Ok(())
    }

    /// A backend that was asked answers, or does not.
    fn answered(&mut self, tables: &mut impl BackendMarks, key: Key, answers: bool) -> Result<(), TableFailure> {
        let Some(silent) = self.silent.get_mut(&key) else { return Ok(()) };
        silent.waits = false;
        if answers {
            return tables.set_silent(key.0, key.1, key.2, 0);
        }
        silent.failures += 1;
        if silent.failures % ROUND < PUT_OFF && tables.silent(key.0, key.1, key.2)?.is_some() {
            tables.set_silent(key.0, key.1, key.2, silent_at(clock::monotonic_ns()))?;
        }
        Ok(())
    }
}
