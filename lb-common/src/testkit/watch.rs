//! Who listens, in plain memory.

use core::cell::{Cell, RefCell};

use super::family::Family;
use super::memory::Memory;
use crate::abi::EventValue;
use crate::datapath::Watch;

/// Somebody who listens, or not.
#[derive(Debug, Default)]
pub struct Listener<A> {
    /// Whether there is somebody.
    pub is_there: Cell<bool>,
    /// What was told.
    pub events: RefCell<Vec<EventValue<A>>>,
}

impl<A: Family> Watch<A> for Memory<A> {
    fn is_watched(&self) -> bool {
        self.listener.is_there.get()
    }

    fn through_memory(&self, word: u64) -> Option<u64> {
        Some(word)
    }

    fn tell(&self, event: &EventValue<A>) {
        self.listener.events.borrow_mut().push(*event);
    }
}
