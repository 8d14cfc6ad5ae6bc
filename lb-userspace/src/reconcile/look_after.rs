//! Looks after backends that behave oddly, once a second: see `outliers`.

use std::time::Duration;

use super::observers::Observers;
use super::writer::Writer;
use crate::linux::clock;
use crate::maps::AgentTables;
use crate::model::desired::Change;
use crate::outliers::{Outliers, SilenceWatch};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Backends that have an event after one look: a node that is lost takes many with it.
const TOLD: usize = 20;

/// Looks after backends.
#[derive(Debug, Default)]
pub(super) struct LookAfter {
    outliers: Outliers,
    silence: SilenceWatch,
    next: Duration,
}

impl LookAfter {
    /// These changes are about to be written.
    pub(super) fn heard(&mut self, changes: &[Change]) {
        self.outliers.heard(changes);
    }

    /// Looks, if it is time to.
    pub(super) fn tick<T: AgentTables>(&mut self, writer: &mut Writer<T>, observers: &Observers) {
        let now = clock::monotonic();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let (tables, planner) = writer.parts();
        let mut events = self.outliers.look(tables, planner, now);
        events.extend(self.silence.look(tables, planner, now));
        let more = events.len().saturating_sub(TOLD);
        events.truncate(TOLD);
        if more > 0 {
            tracing::warn!(backends = more, "more backends have begun or ceased to be silent or ejected");
        }
        observers.backends(events, self.outliers.totals(), self.silence.count());
    }
}
