//! A change that is worked out and not yet in the maps: it ends by commit or abort, never by being forgotten.

use std::net::IpAddr;

use lb_common::abi::FrontendValue;

use super::op::{Op, Vip};
use super::planner::Planner;
use super::port::PortState;
use super::removal::Removal;
use crate::model::desired::{Refusal, ServiceName};
use crate::model::family::PerFamily;

/// One write and what undoes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The write.
    pub op: Op,
    /// The write that takes it back, where needed.
    pub undo: Option<Op>,
}

/// Everything that one Service needs written before anything of it is removed.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) steps: Vec<Step>,
    pub(super) name: ServiceName,
    pub(super) before: Vec<PortState>,
    pub(super) after: Vec<PortState>,
    pub(super) flips: Vec<(Vip, FrontendValue)>,
    pub(super) taken: Vec<Removal>,
    pub(super) freed: Vec<Removal>,
    pub(super) range_before: PerFamily<Option<(IpAddr, IpAddr)>>,
    pub(super) reserved_before: u32,
    /// A set goes without the table that it should have.
    pub(super) shortage: Option<Refusal>,
}

impl Transaction {
    pub(super) fn step(&mut self, op: Op, undo: Option<Op>) {
        self.steps.push(Step { op, undo });
    }
}

/// A staged change. Nothing else can be staged while it is there; dropped, it is aborted.
#[derive(Debug)]
pub struct Staged<'p> {
    planner: &'p mut Planner,
    /// None once it has ended.
    txn: Option<Transaction>,
}

impl<'p> Staged<'p> {
    pub(super) const fn new(planner: &'p mut Planner, txn: Transaction) -> Self {
        Self { planner, txn: Some(txn) }
    }

    /// What is to be written, in this order.
    pub fn steps(&self) -> &[Step] {
        self.txn.as_ref().map_or(&[], |txn| &txn.steps)
    }

    /// Why the Service will not be quite as it should be, if so.
    pub fn shortage(&self) -> Option<Refusal> {
        self.txn.as_ref()?.shortage.clone()
    }

    /// Every step is in the maps.
    pub fn commit(mut self) {
        if let Some(txn) = self.txn.take() {
            self.planner.commit(txn);
        }
    }

    /// A step failed and those before it were taken back: the Service stays as it was.
    pub fn abort(self) {}

    /// A step failed and it could not be taken back: as [`Staged::abort`], but what it took is not used again.
    pub fn abandon(mut self) {
        if let Some(txn) = &mut self.txn {
            txn.taken.clear();
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(txn) = self.txn.take() {
            self.planner.abort(txn);
        }
    }
}

impl Planner {
    /// Every step is in the maps.
    fn commit(&mut self, txn: Transaction) {
        self.written.extend(txn.flips);
        for old in &txn.before {
            for (addr, _) in &old.addresses {
                if let Some(holders) = self.holders.get_mut(addr) {
                    holders.retain(|hold| hold.service != old.service);
                }
            }
        }
        for state in &txn.after {
            for (addr, hold) in &state.addresses {
                self.holders.entry(*addr).or_default().push(*hold);
            }
            for vip in &state.frontends {
                self.removals.keep_frontend(vip);
            }
            for net in &state.ranges {
                self.removals.keep_range(state.service, *net);
            }
        }
        for (addr, _) in txn.before.iter().flat_map(|old| &old.addresses) {
            if self.holders.get(addr).is_none_or(Vec::is_empty) {
                self.removals.add(Removal::Address(*addr));
            }
        }
        for removal in txn.freed {
            self.removals.add(removal);
        }
        if !txn.after.is_empty() {
            self.services.insert(txn.name, txn.after);
        }
    }

    /// Nothing was written: what it took is free at once.
    pub(super) fn cancel(&mut self, mut txn: Transaction) {
        for taken in std::mem::take(&mut txn.taken) {
            match taken {
                Removal::Name(service) => self.service_ids.cancel(service),
                Removal::Backend(family, id) => self.backend_ids[family].cancel(id),
                Removal::Slots(family, set) => self.slots[family].cancel(set.base, set.count),
                Removal::Table(..) => self.give_back(taken),
                Removal::Frontend(..) | Removal::Address(_) | Removal::Range(..) => {}
            }
        }
        self.abort(txn);
    }

    /// A step failed and those before it were taken back: the Service stays as it was.
    pub(super) fn abort(&mut self, txn: Transaction) {
        // The step that reserves may not have been carried out; to carry it out twice does no harm.
        self.vip_range = txn.range_before;
        self.reserved = txn.reserved_before;
        for taken in txn.taken {
            self.give_back(taken);
        }
        if !txn.before.is_empty() {
            self.services.insert(txn.name, txn.before);
        }
    }
}
