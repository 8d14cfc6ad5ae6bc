//! Moves sockets that are connected to a backend which is gone to another one, or destroys them, in every network namespace
//! of the node.
//!
//! A connected UDP socket, such as a resolver's, would otherwise send to the dead backend for as long as it lives:
//! its address was translated once, at `connect()`. It is connected anew in its owner's stead. Where that cannot be, it is
//! destroyed: its next call fails with `ECONNABORTED`, and the client connects anew.
//!
//! Calls block: from a runtime, go through `spawn_blocking`. Namespaces are entered on a separate thread, which ends
//! with the call, so that no other thread is ever in a foreign one.

mod destroyer;
mod diag;
mod error;
mod hook_plan;
pub mod hooks;
mod mover;
mod namespaces;
pub mod opt_out;
mod outcome;
mod reach;
mod reaper;
mod search;
mod support;

pub use destroyer::Destroyer;
pub use error::{DestroyError, WhyNot};
pub use hook_plan::{SocketMode, SocketReport, SocketSettings};
pub use namespaces::Survey;
pub use outcome::{Failure, Outcome};
pub use reaper::{Destroy, Reaper};
pub use support::supported;

pub use crate::maps::sockets::SocketRow as Victim;
pub use crate::model::desired::Family;
