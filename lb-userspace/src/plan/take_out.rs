//! Takes out what transactions have left behind, once every new thing of the batch is in.

use std::net::{IpAddr, Ipv6Addr};

use super::address;
use super::op::{Op, Vip};
use super::planner::Planner;
use super::removal::Removal;
use crate::model::family::Family;

impl Planner {
    /// The next removal: its operation, if it needs one. Call [`Planner::removed`] once it is carried out.
    pub fn next_removal(&mut self) -> Option<Op> {
        while let Some(removal) = self.removals.next() {
            if let Some(op) = self.removal_op(&removal) {
                return Some(op);
            }
            self.finish_removal(&removal);
        }
        None
    }

    /// The operation that [`Planner::next_removal`] gave is carried out.
    pub fn removed(&mut self) {
        if let Some(removal) = self.removals.next() {
            self.finish_removal(&removal);
        }
    }

    fn removal_op(&self, removal: &Removal) -> Option<Op> {
        match *removal {
            Removal::Frontend(vip, service) => {
                let owned = self.written.get(&vip).is_some_and(|value| value.service == service);
                owned.then_some(Op::DeleteFrontend(vip))
            }
            Removal::Address(addr) => {
                let own = Vip::of_address(addr);
                let written = self.written.get(&own)?;
                match address::entry(self.holders.get(&addr).into_iter().flatten().copied()) {
                    None => Some(Op::DeleteFrontend(own)),
                    Some(value) => (value != *written).then_some(Op::PutFrontend(own, value)),
                }
            }
            Removal::Range(service, net) => Some(Op::DeleteRange(service, net)),
            Removal::Table(family, set, blocks) => Some(Op::DeleteTable(family, set, blocks)),
            Removal::Slots(..) => None,
            Removal::Backend(family, id) => Some(Op::DeleteBackend(family, id)),
            Removal::Name(service) => Some(Op::DeleteName(service)),
        }
    }

    fn finish_removal(&mut self, removal: &Removal) {
        match self.removal_op(removal) {
            Some(Op::DeleteFrontend(vip)) => {
                self.written.remove(&vip);
            }
            Some(Op::PutFrontend(vip, value)) => {
                self.written.insert(vip, value);
            }
            _ => {}
        }
        if let Removal::Address(addr) = removal
            && self.holders.get(addr).is_some_and(Vec::is_empty)
        {
            self.holders.remove(addr);
        }
        self.removals.done(removal);
        self.give_back(*removal);
        self.freed_room = true;
    }

    pub(super) fn give_back(&mut self, removal: Removal) {
        match removal {
            Removal::Name(service) => self.service_ids.put(service),
            Removal::Backend(family, id) => self.backend_ids[family].put(id),
            Removal::Table(family, _, blocks) => {
                let in_use = &mut self.blocks_in_use[family];
                *in_use = in_use.saturating_sub(blocks);
            }
            Removal::Slots(family, set) => self.slots[family].put(set.base, set.count),
            Removal::Frontend(..) | Removal::Address(_) | Removal::Range(..) => {}
        }
    }

    /// Shrinks the range of known `ClusterIP`s to those that are left.
    pub fn narrow(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for family in Family::ALL {
            let first_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let of_family = match family {
                Family::V4 => self.holders.range(..first_v6),
                Family::V6 => self.holders.range(first_v6..),
            };
            // What is about to go was one, perhaps.
            let mut of_family =
                of_family.filter(|(_, holds)| holds.is_empty() || holds.iter().any(|hold| hold.is_cluster_ip));
            let lo = of_family.next().map(|(addr, _)| *addr);
            let hi = of_family.next_back().map(|(addr, _)| *addr).or(lo);
            let range = lo.zip(hi);
            if self.vip_range[family] != range {
                self.vip_range[family] = range;
                ops.push(Op::SetVipRange(family, range));
            }
        }
        ops
    }
}
