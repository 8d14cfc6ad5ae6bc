//! Writes transactions to the tables. A Service whose write fails stays as it was and is tried again; one that does not
//! fit loses what is gone, and has no more endpoints than before. Neither costs another Service anything.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use crate::causes::with_causes;
use crate::maps::{TableFailure, Tables};
use crate::model::desired::{Change, DesiredService, Refusal, ServiceName};
use crate::model::family::PerFamily;
use crate::model::reason::Reason;
use crate::plan::{Op, Planner, Portion, Staged};

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Services brought into the maps.
    pub services: usize,
    /// Operations carried out.
    pub writes: usize,
    /// Services that stayed as they were.
    pub refused: usize,
    /// Backends removed.
    pub backends_gone: usize,
    /// It was broken off: another agent is to write. What was written is whole, Service by Service.
    pub broken_off: bool,
}

impl Outcome {
    pub(super) fn log(&self, services: usize, begin: Instant) {
        tracing::debug!(
            services,
            writes = self.writes,
            refused = self.refused,
            millis = millis(begin),
            "changes are in the kernel"
        );
    }
}

pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Asked before each Service: whether to go on.
pub(super) type GoOn<T> = Box<dyn FnMut(&T) -> bool + Send>;

/// A Service that could not be written.
#[derive(Debug)]
struct Deferred {
    change: Change,
    refusal: Refusal,
}

/// The planner with its tables.
pub struct Writer<T> {
    tables: T,
    go_on: GoOn<T>,
    planner: Planner,
    deferred: BTreeMap<ServiceName, Deferred>,
    /// What could not be taken back; done first in the next batch.
    undo_left: Vec<Op>,
    /// Changes with the refusals.
    refusals_version: u64,
    /// A removal failed: it and those after it are still to be carried out.
    removals_left: bool,
}

impl<T: Tables> Writer<T> {
    /// Takes over what the tables hold.
    pub fn restore(tables: T) -> Result<Self, TableFailure> {
        let planner = Planner::restore(&tables.limits(), tables.read()?);
        Ok(Self {
            tables,
            go_on: Box::new(|_| true),
            planner,
            deferred: BTreeMap::new(),
            undo_left: Vec::new(),
            refusals_version: 0,
            removals_left: false,
        })
    }

    /// Breaks batches off as soon as this says no.
    pub(super) fn while_it(&mut self, goes_on: GoOn<T>) {
        self.go_on = goes_on;
    }

    /// The tables.
    pub fn tables(&mut self) -> &mut T {
        &mut self.tables
    }

    /// The tables, and what the planner knows of them.
    pub const fn parts(&mut self) -> (&mut T, &Planner) {
        (&mut self.tables, &self.planner)
    }

    /// Number of Services in the maps.
    pub fn services(&self) -> usize {
        self.planner.services()
    }

    /// Slots in use.
    pub fn slots_in_use(&self) -> PerFamily<usize> {
        self.planner.slots_in_use()
    }

    /// Whether the last change of a Service is still to be written.
    pub fn is_deferred(&self, name: &ServiceName) -> bool {
        self.deferred.contains_key(name)
    }

    /// Why Services are not as they should be.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> + Clone {
        self.deferred.values().map(|deferred| &deferred.refusal)
    }

    /// Changes whenever the refusals do.
    pub const fn refusals_version(&self) -> u64 {
        self.refusals_version
    }

    /// Whether maps could not be written, other than for want of room.
    pub fn in_trouble(&self) -> bool {
        !self.undo_left.is_empty()
            || self.removals_left
            || self.refusals().any(|refusal| refusal.reason == Reason::WriteFailed)
    }

    /// Whether something is left to try again.
    pub fn pending(&self) -> bool {
        !self.deferred.is_empty() || !self.undo_left.is_empty() || self.removals_left
    }

    /// Whether room has appeared since the last call.
    pub fn take_freed_room(&mut self) -> bool {
        self.planner.take_freed_room()
    }

    /// Brings the changes into the maps, everything new first.
    pub fn write(&mut self, changes: Vec<Change>) -> Outcome {
        let mut outcome = Outcome::default();
        self.planner.begin();
        while let Some(op) = self.undo_left.last() {
            if self.tables.apply(op).is_err() {
                break;
            }
            self.undo_left.pop();
        }
        for change in changes {
            if !(self.go_on)(&self.tables) {
                outcome.broken_off = true;
                return outcome;
            }
            self.write_one(change, &mut outcome);
        }
        self.remove(&mut outcome);
        if outcome.broken_off {
            return outcome;
        }
        for op in self.planner.narrow() {
            outcome.writes += usize::from(self.tables.apply(&op).is_ok());
        }
        outcome
    }

    /// Whether a Service was found in the maps and no change has named it since.
    pub fn is_unclaimed(&self, name: &ServiceName) -> bool {
        self.planner.is_unclaimed(name)
    }

    /// The source has listed everything: what it did not name goes away.
    pub fn write_first(&mut self, mut changes: Vec<Change>) -> Outcome {
        let named: std::collections::HashSet<&ServiceName> = changes.iter().map(change_name).collect();
        let gone: Vec<_> = self.planner.unclaimed().into_iter().filter(|name| !named.contains(name)).collect();
        changes.extend(gone.into_iter().map(Change::Remove));
        self.write(changes)
    }

    /// Tries again what did not fit.
    pub fn retry(&mut self) -> Outcome {
        let changes = self.deferred.values().map(|deferred| deferred.change.clone()).collect();
        self.write(changes)
    }

    fn write_one(&mut self, change: Change, outcome: &mut Outcome) {
        let name = change_name(&change).clone();
        let before = self.deferred.remove(&name).map(|deferred| deferred.refusal);
        let refused = self.try_to_write(&name, &change, outcome).err();
        if before != refused {
            self.refusals_version += 1;
        }
        let Some(refusal) = refused else {
            outcome.services += 1;
            return;
        };
        tracing::debug!(
            object = %refusal.object,
            reason = refusal.reason.name(),
            "Service is not as it should be: {}", refusal.message
        );
        outcome.refused += 1;
        self.deferred.insert(name, Deferred { change, refusal });
    }

    fn try_to_write(&mut self, name: &ServiceName, change: &Change, outcome: &mut Outcome) -> Result<(), Refusal> {
        let mut refused = match self.planner.stage(change) {
            Ok(staged) => {
                let shortage = staged.shortage();
                let written = carry_out(&mut self.tables, staged, &mut self.undo_left, outcome);
                written.map_err(|failure| refusal(name, &failure))?;
                return shortage.map_or(Ok(()), Err);
            }
            Err(refused) => refused,
        };
        if self.write_a_part(change, outcome) {
            refused.message += "; meanwhile new endpoints take the place of those that are gone, and no more";
        }
        Err(refused)
    }

    /// A Service that does not fit loses the endpoints that are gone, whose room may be what it lacks, and gets others
    /// in their place.
    fn write_a_part(&mut self, change: &Change, outcome: &mut Outcome) -> bool {
        for portion in Portion::ALL {
            let Some(part) = self.planner.part(change, portion) else { return false };
            if let Ok(staged) = self.planner.stage(&part) {
                return carry_out(&mut self.tables, staged, &mut self.undo_left, outcome).is_ok();
            }
        }
        false
    }

    fn remove(&mut self, outcome: &mut Outcome) {
        self.removals_left = false;
        while let Some(op) = self.planner.next_removal() {
            if !(self.go_on)(&self.tables) {
                outcome.broken_off = true;
                self.removals_left = true;
                return;
            }
            if let Err(failure) = self.tables.apply(&op) {
                tracing::error!(%failure, "cannot remove an entry, trying again");
                self.removals_left = true;
                return;
            }
            outcome.writes += 1;
            outcome.backends_gone += usize::from(matches!(op, Op::DeleteBackend(..)));
            self.planner.removed();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("tables", &self.tables).finish_non_exhaustive()
    }
}

/// Carries a staged change out, or takes it back. `undo_left` gets what could not be taken back.
fn carry_out<T: Tables>(
    tables: &mut T,
    staged: Staged<'_>,
    undo_left: &mut Vec<Op>,
    outcome: &mut Outcome,
) -> Result<(), TableFailure> {
    for (done, step) in staged.steps().iter().enumerate() {
        let Err(failure) = tables.apply(&step.op) else {
            outcome.writes += 1;
            continue;
        };
        let undo: Vec<Op> = staged.steps()[..=done].iter().filter_map(|step| step.undo.clone()).collect();
        let left = take_back(tables, undo);
        if left.is_empty() {
            staged.abort();
        } else {
            staged.abandon();
            undo_left.extend(left);
        }
        return Err(failure);
    }
    staged.commit();
    Ok(())
}

/// Undoes from the last to the first; gives back what could not be undone.
fn take_back<T: Tables>(tables: &mut T, mut undo: Vec<Op>) -> Vec<Op> {
    while let Some(op) = undo.last() {
        if let Err(failure) = tables.apply(op) {
            tracing::error!(%failure, "cannot take back a failed write, trying again");
            break;
        }
        undo.pop();
    }
    undo
}

fn change_name(change: &Change) -> &ServiceName {
    match change {
        Change::Upsert(DesiredService { name, .. }) | Change::Remove(name) => name,
    }
}

fn refusal(name: &ServiceName, failure: &TableFailure) -> Refusal {
    let (reason, message) = match failure.setting() {
        Some(setting) => {
            (Reason::MapFull, format!("{failure}; raise {setting}, which takes effect after `sluice cleanup`"))
        }
        None => (Reason::WriteFailed, format!("{}; it is tried again", with_causes(failure))),
    };
    let (kind, object) = name.object();
    Refusal { kind, object, reason, message }
}
