//! Tables that fail when told to, for tests.

use super::failure::TableFailure;
use super::filters::LiveFlows;
use super::tables::{FamilySettings, Tables};
use crate::model::desired::Family;
use crate::plan::{Existing, Limits, Op};

/// Decides which operations fail; the number is the count of operations so far.
type Fault = Box<dyn FnMut(usize, &Op) -> bool + Send>;

/// Tables in front of others.
pub struct FaultyTables<T> {
    /// The tables behind.
    pub inner: T,
    /// Asked before each operation; true: it fails.
    pub fault: Fault,
    /// How it fails; at first as if a map were full.
    pub failure: fn() -> TableFailure,
    /// Operations so far.
    pub count: usize,
}

impl<T: Tables> FaultyTables<T> {
    /// Tables that do not fail yet.
    pub fn new(inner: T) -> Self {
        Self { inner, fault: Box::new(|_, _| false), failure: || TableFailure::Full { map: "BACKENDS4" }, count: 0 }
    }
}

impl<T: Tables> Tables for FaultyTables<T> {
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure> {
        self.count += 1;
        if (self.fault)(self.count, op) {
            return Err((self.failure)());
        }
        self.inner.apply(op)
    }

    fn read(&self) -> Result<Existing, TableFailure> {
        self.inner.read()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn settle(&mut self, live: &LiveFlows) -> Result<(), TableFailure> {
        self.inner.settle(live)
    }

    fn configure(&mut self, family: Family, settings: &FamilySettings) -> Result<(), TableFailure> {
        self.inner.configure(family, settings)
    }
}
