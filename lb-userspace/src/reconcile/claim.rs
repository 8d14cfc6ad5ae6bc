//! Whether this agent is still the one that writes.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_common::abi::StatusValue;

use super::inputs::Ended;
use crate::maps::{AgentTables, TableFailure};

/// Within a batch it is asked at most this often.
const PACE: Duration = Duration::from_millis(100);

/// Tells whether another agent waits for this one to give way.
pub type HasSuccessor = Arc<dyn Fn() -> bool + Send + Sync>;

/// What this agent wrote into `STATUS` when it began. The lock beside the pins keeps other agents away; what is written
/// here shows those that know nothing of it, or have another one.
#[derive(Clone)]
pub struct Claim {
    /// Random: process ids mean nothing across pid namespaces.
    owner: u64,
    pid: u32,
    started_ns: u64,
    has_successor: HasSuccessor,
}

impl Claim {
    /// For this process.
    pub fn new(has_successor: HasSuccessor) -> Self {
        // Its keys are the standard library's way to random numbers.
        let owner = RandomState::new().build_hasher().finish() | 1;
        Self { owner, pid: std::process::id(), started_ns: now_ns(), has_successor }
    }

    /// Writes it.
    pub(super) fn stake(&self, tables: &mut impl AgentTables) -> Result<(), TableFailure> {
        tables.update_status(|status| {
            let Self { owner, pid, started_ns, .. } = *self;
            *status = StatusValue { owner, pid, started_ns, synced_ns: 0, ..*status };
        })
    }

    /// Why this agent has to end, if it has to.
    pub(super) fn lost(&self, tables: &impl AgentTables) -> Option<Ended> {
        if (self.has_successor)() {
            return Some(Ended::TakenOver);
        }
        let is_own = |status: StatusValue| {
            (status.owner, status.pid, status.started_ns) == (self.owner, self.pid, self.started_ns)
        };
        // What cannot be read now says nothing.
        tables.status().is_ok_and(|status| !is_own(status)).then_some(Ended::Ousted)
    }

    /// Asked between the Services of a batch: whether to go on with it.
    pub(super) fn go_on<T: AgentTables>(&self) -> super::writer::GoOn<T> {
        let claim = self.clone();
        let mut next = Instant::now() + PACE;
        Box::new(move |tables| {
            let now = Instant::now();
            if now < next {
                return true;
            }
            next = now + PACE;
            claim.lost(tables).is_none()
        })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The time as `STATUS` has it.
pub(super) fn now_ns() -> u64 {
    ns_since_epoch(SystemTime::now())
}

/// The same for another time.
pub(super) fn ns_since_epoch(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
