//! How far the start has come, and what a former agent left: it stays until the source says something better.

use std::collections::BTreeMap;

use super::writer::{Outcome, Writer};
use crate::maps::Tables;
use crate::model::desired::{Change, ServiceName};
use crate::model::world::World;

/// How far the start has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    /// The node's addresses are known, or were waited for long enough.
    pub(super) network_known: bool,
    /// The programs are on the devices that were there at the start.
    pub(super) attached: bool,
    /// The first full state is in the maps.
    pub(super) synced: bool,
    /// What the first write did and how long it took, until it is announced.
    pub(super) first_write: Option<(Outcome, u64)>,
}

/// Services in the maps that the source has not named. They go when it was read in full; until then they may be in what
/// cannot be read. So may be the endpoints of one that has none.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    held: BTreeMap<ServiceName, Change>,
    /// Something cannot be read.
    hidden: bool,
    gone: bool,
}

impl Leftovers {
    /// Which of the changes are to be written now.
    pub(super) fn sift<T: Tables>(&mut self, changes: Vec<Change>, world: &World, writer: &Writer<T>) -> Vec<Change> {
        if self.gone {
            return changes;
        }
        let hidden = world.refusals().any(|refusal| refusal.reason.hides_objects());
        self.hidden = hidden;
        let mut now = Vec::with_capacity(changes.len());
        for change in changes {
            let (name, bare) = match &change {
                Change::Upsert(service) => (&service.name, service.ports.iter().all(|port| port.backends.is_empty())),
                Change::Remove(name) => (name, false),
            };
            if hidden && bare && writer.is_unclaimed(name) {
                self.held.insert(name.clone(), change);
            } else {
                self.held.remove(name);
                now.push(change);
            }
        }
        if !hidden {
            now.extend(std::mem::take(&mut self.held).into_values());
        }
        now
    }

    /// Whether there is something to take out although nothing has changed.
    pub(super) const fn are_due(&self) -> bool {
        !self.gone && !self.hidden
    }

    /// Writes what [`Leftovers::sift`] gave, and takes out what nobody has named when that is certain.
    pub(super) fn write<T: Tables>(&mut self, writer: &mut Writer<T>, changes: Vec<Change>) -> Outcome {
        if !self.are_due() {
            return writer.write(changes);
        }
        self.gone = true;
        writer.write_first(changes)
    }
}
