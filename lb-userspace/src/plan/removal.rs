//! What is no longer needed and is taken out after every new thing of the batch is in: frontends, then source ranges,
//! tables, slots, backends and names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::abi::SetRef;

use super::op::Vip;
use super::port::{PortSet, PortState};
use crate::model::desired::Family;

/// One thing to take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// A frontend, if it still belongs to that service id.
    Frontend(Vip, u32),
    /// The entry of an address that nobody may have any more.
    Address(IpAddr),
    /// An allowed prefix.
    Range(u32, IpNet),
    /// The table of the set that begins at a slot, which has so many blocks.
    Table(Family, u32, u32),
    /// A slot range; no map operation, its room is free again.
    Slots(Family, SetRef),
    /// A backend.
    Backend(Family, u32),
    /// A service id.
    Name(u32),
}

/// Removals in their order.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    frontends: BTreeMap<Vip, u32>,
    addresses: BTreeSet<IpAddr>,
    ranges: BTreeSet<(u32, IpNet)>,
    tables: Vec<(Family, u32, u32)>,
    slots: Vec<(Family, SetRef)>,
    backends: Vec<(Family, u32)>,
    names: Vec<u32>,
}

impl Removals {
    pub(crate) fn add(&mut self, removal: Removal) {
        match removal {
            Removal::Frontend(vip, service) => {
                self.frontends.insert(vip, service);
            }
            Removal::Address(addr) => {
                self.addresses.insert(addr);
            }
            Removal::Range(service, net) => {
                self.ranges.insert((service, net));
            }
            Removal::Table(family, set, blocks) => self.tables.push((family, set, blocks)),
            Removal::Slots(family, set) => self.slots.push((family, set)),
            Removal::Backend(family, id) => self.backends.push((family, id)),
            Removal::Name(service) => self.names.push(service),
        }
    }

    /// A frontend is wanted after all.
    pub(crate) fn keep_frontend(&mut self, vip: &Vip) {
        self.frontends.remove(vip);
    }

    /// A prefix is wanted after all.
    pub(crate) fn keep_range(&mut self, service: u32, net: IpNet) {
        self.ranges.remove(&(service, net));
    }

    /// The table of a set that begins at this slot need not be taken out later; gives its blocks.
    pub(crate) fn take_table(&mut self, family: Family, set: u32) -> Option<u32> {
        let at = self.tables.iter().position(|(of, first, _)| (*of, *first) == (family, set))?;
        Some(self.tables.swap_remove(at).2)
    }

    /// The next thing to take out; it stays until [`Removals::done`].
    pub(crate) fn next(&self) -> Option<Removal> {
        None.or_else(|| self.frontends.first_key_value().map(|(vip, s)| Removal::Frontend(*vip, *s)))
            .or_else(|| self.addresses.first().map(|addr| Removal::Address(*addr)))
            .or_else(|| self.ranges.first().map(|(s, net)| Removal::Range(*s, *net)))
            .or_else(|| self.tables.last().map(|(f, set, blocks)| Removal::Table(*f, *set, *blocks)))
            .or_else(|| self.slots.last().map(|(f, set)| Removal::Slots(*f, *set)))
            .or_else(|| self.backends.last().map(|(f, id)| Removal::Backend(*f, *id)))
            .or_else(|| self.names.last().map(|s| Removal::Name(*s)))
    }

    /// The thing that [`Removals::next`] gave is out.
    pub(crate) fn done(&mut self, removal: &Removal) {
        match removal {
            Removal::Frontend(vip, _) => {
                self.frontends.remove(vip);
            }
            Removal::Address(addr) => {
                self.addresses.remove(addr);
            }
            Removal::Range(service, net) => {
                self.ranges.remove(&(*service, *net));
            }
            Removal::Table(..) => {
                self.tables.pop();
            }
            Removal::Slots(..) => {
                self.slots.pop();
            }
            Removal::Backend(..) => {
                self.backends.pop();
            }
            Removal::Name(_) => {
                self.names.pop();
            }
        }
    }
}

/// What a set that is no longer used leaves behind.
pub(super) fn of_set(family: Family, set: &PortSet) -> impl Iterator<Item = Removal> {
    let table = (set.places > 0).then(|| Removal::Table(family, set.base, set.blocks()));
    let slots = (!set.ids.is_empty()).then(|| Removal::Slots(family, set.reference()));
    table.into_iter().chain(slots)
}

/// Everything of a port that goes away.
pub(super) fn free_port(freed: &mut Vec<Removal>, old: &PortState) {
    let family = old.family;
    freed.extend(old.frontends.iter().map(|vip| Removal::Frontend(*vip, old.service)));
    freed.extend(old.ranges.iter().map(|net| Removal::Range(old.service, *net)));
    freed.extend(old.sets.iter().flat_map(|set| of_set(family, set)));
    freed.extend(old.stray_slots.iter().map(|set| Removal::Slots(family, *set)));
    let backends = old.backends.iter().map(|b| b.id).chain(old.stray_backends.iter().copied());
    freed.extend(backends.map(|id| Removal::Backend(family, id)));
    freed.push(Removal::Name(old.service));
}
