//! The tables of fragments in plain memory.

use core::cell::RefCell;
use std::collections::HashMap;

use crate::abi::{FragmentKey, FragmentValue, HeldKey, HeldValue, SenderKey, Waiting};

/// What first fragments have said, and what waits for one.
#[derive(Debug)]
pub struct FragmentTables<A> {
    pub(super) firsts: RefCell<HashMap<FragmentKey<A>, FragmentValue>>,
    pub(super) datagrams: RefCell<HashMap<FragmentKey<A>, Waiting>>,
    pub(super) senders: RefCell<HashMap<SenderKey<A>, Waiting>>,
    pub(super) held: RefCell<HashMap<HeldKey<A>, HeldValue>>,
}

impl<A> Default for FragmentTables<A> {
    fn default() -> Self {
        Self {
            firsts: RefCell::default(),
            datagrams: RefCell::default(),
            senders: RefCell::default(),
            held: RefCell::default(),
        }
    }
}
