//! Who listens, in plain memory.

use core::cell::{Cell, RefCell};

use crate::abi::EventValue;

/// Somebody who listens, or not.
#[derive(Debug, Default)]
pub struct Listener<A> {
    /// Whether there is somebody.
    pub is_there: Cell<bool>,
    /// What was told.
    pub events: RefCell<Vec<EventValue<A>>>,
}
