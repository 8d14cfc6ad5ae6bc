//! From events to maps: the one task that writes.
//!
//! ```text
//! SourceEvent ─┐
//! NodeNetwork ─┴> World -> changes -> Writer (plan, tables) -> maps
//! ```
//!
//! A first change is written at once; what arrives meanwhile is taken together. Nothing is written before the source
//! has listed everything once, so a restart or an API outage never removes what is served.

pub mod agent_report;
mod claim;
pub mod facts;
mod former;
mod inputs;
mod look_after;
mod observers;
mod origin;
mod reporter;
mod retry;
mod start;
mod task;
#[cfg(test)]
mod tests;
mod writer;

pub use claim::{Claim, HasSuccessor};
pub use facts::{ReconcileSettings, SocketFacts, Surroundings};
pub use inputs::{Ended, Inputs};
pub use observers::Observers;
pub use origin::Origin;
pub use task::Reconciler;
pub use writer::{Outcome, Writer};
