//! From desired Services to an ordered list of map operations. Pure: knows neither maps nor system calls.
//!
//! ```text
//! Change -> Planner::stage -> Staged { steps } -> (applied) -> commit -> removals, after all steps
//!                                             \-> (failed)  -> undo, abort: the Service stays as it was
//! ```
//!
//! One transaction per Service. Its steps are in the order in which a reader in the kernel may see them: name, backends,
//! slots, source ranges, and only then the frontends, so that a frontend never leads to something half-written. What a
//! batch of transactions leaves behind is removed after all of them, in reverse. Freed ids and slot ranges rest until
//! the next batch begins, so that a packet in flight never meets a reused one.

mod address;
mod fit;
mod ids;
mod maglev;
mod op;
mod planner;
mod port;
mod removal;
mod restore;
mod schedule;
mod slots;
mod stage;
mod take_out;
mod transaction;

pub use fit::Portion;
pub use op::{BackendEntry, Existing, Limits, Op, Vip};
pub use planner::{PlacedBackend, Planner};
pub use transaction::{Staged, Step};
