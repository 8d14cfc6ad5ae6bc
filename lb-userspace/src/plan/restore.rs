//! Rebuilds the planner from what the maps hold, so that ids and generations outlive the agent, also when it died in
//! the middle of a write.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::abi::{FrontendValue, SetRef, frontend_flag, frontend_kind};

use super::ids::IdPool;
use super::op::{Existing, Limits, Vip};
use super::planner::Planner;
use super::port::{PortBackend, PortSet, PortState};
use super::removal::Removal;
use super::slots::SlotPool;
use crate::model::desired::{PortId, ServiceName};
use crate::model::family::Family;

impl Planner {
    /// A planner for maps that hold this. What belongs to no nameable Service is taken out with the first batch.
    pub fn restore(limits: &Limits, existing: Existing) -> Self {
        let mut planner = Self::empty(limits);
        planner.take_pools(limits, &existing);
        planner.vip_range = existing.vip_range;

        let mut ports: BTreeMap<u32, (ServiceName, PortState)> = BTreeMap::new();
        for (service, family, name) in &existing.names {
            match PortId::parse(name, *family) {
                Ok(PortId { service: owner, port_name, protocol, family }) => {
                    let state = PortState::new(&port_name, protocol, family, *service);
                    ports.insert(*service, (owner, state));
                }
                Err(_) => planner.removals.add(Removal::Name(*service)),
            }
        }
        let mut backends = existing.backends;
        backends.sort_unstable_by_key(|(_, id, entry)| (entry.service, entry.addr, *id));
        for (family, id, entry) in backends {
            let owner = ports.get_mut(&entry.service).filter(|(_, state)| state.family == family);
            let Some((_, state)) = owner else {
                planner.removals.add(Removal::Backend(family, id));
                continue;
            };
            if state.backends.last().is_some_and(|last| last.addr == entry.addr) {
                state.stray_backends.push(id);
                continue;
            }
            let (addr, generation, flags) = (entry.addr, entry.generation, entry.flags);
            state.backends.push(PortBackend { addr, id, generation, flags });
        }
        for (service, net) in existing.ranges {
            match ports.get_mut(&service) {
                Some((_, state)) => state.ranges.push(net),
                None => planner.removals.add(Removal::Range(service, net)),
            }
        }
        let mut sets: HashMap<(Family, u32, u32), Box<[u32]>> =
            existing.sets.into_iter().map(|(family, set, ids)| ((family, set.base, set.count), ids)).collect();
        let mut frontends = existing.frontends;
        frontends.sort_unstable_by_key(|(vip, _)| *vip);
        for (vip, value) in &frontends {
            planner.take_frontend(&mut ports, &mut sets, *vip, value);
        }
        for (owner, mut state) in ports.into_values() {
            state.ranges.sort_unstable();
            planner.unclaimed.insert(owner.clone());
            planner.services.entry(owner).or_default().push(state);
        }
        planner
    }

    fn take_pools(&mut self, limits: &Limits, existing: &Existing) {
        let names = existing.names.iter().map(|(service, ..)| *service);
        let owners = existing.frontends.iter().map(|(_, value)| value.service).filter(|service| *service != 0);
        let used: BTreeSet<u32> = names.chain(owners).collect();
        self.service_ids = IdPool::new(limits.services.saturating_add(1), &used);
        for family in Family::ALL {
            let of_family = existing.backends.iter().filter(|(f, ..)| *f == family);
            self.backend_ids[family] = IdPool::new(limits.backends[family], &of_family.map(|(_, id, _)| *id).collect());
            let sets = existing.frontends.iter().filter(|(vip, _)| vip.family() == family);
            let sets = sets.flat_map(|(_, value)| [value.internal, value.external]);
            let used = sets.filter(|set| set.count > 0).map(|set| (set.base, set.count)).collect();
            self.slots[family] = SlotPool::new(limits.slots[family], &used);
        }
        let newest = existing.backends.iter().map(|(_, _, entry)| entry.generation).max().unwrap_or(0);
        self.next_generation = existing.next_generation.max(newest.saturating_add(1)).max(1);
        self.reserved = self.next_generation;
    }

    fn take_frontend(
        &mut self,
        ports: &mut BTreeMap<u32, (ServiceName, PortState)>,
        sets: &mut HashMap<(Family, u32, u32), Box<[u32]>>,
        vip: Vip,
        value: &FrontendValue,
    ) {
        self.written.insert(vip, *value);
        let family = vip.family();
        if value.kind == frontend_kind::KNOWN_VIP {
            self.holders.entry(vip.addr).or_default();
            self.removals.add(Removal::Known(vip.addr));
            return;
        }
        let Some((_, state)) = ports.get_mut(&value.service) else {
            self.removals.add(Removal::Frontend(vip, value.service));
            return;
        };
        state.frontends.push(vip);
        if value.kind == frontend_kind::CLUSTER_IP && state.cluster_ips.last() != Some(&vip.addr) {
            state.cluster_ips.push(vip.addr);
            let holders = self.holders.entry(vip.addr).or_default();
            if !holders.contains(&value.service) {
                holders.push(value.service);
            }
        }
        for (set, local_bit) in
            [(value.internal, frontend_flag::INTERNAL_LOCAL), (value.external, frontend_flag::EXTERNAL_LOCAL)]
        {
            take_set(state, sets, family, set, usize::from(value.flags & local_bit != 0));
        }
    }
}

/// The first range seen of a kind is the port's set; another one is what an interrupted flip left behind.
fn take_set(
    state: &mut PortState,
    sets: &mut HashMap<(Family, u32, u32), Box<[u32]>>,
    family: Family,
    set: SetRef,
    kind: usize,
) {
    let known = |state: &PortState| {
        state.sets.iter().any(|s| !s.ids.is_empty() && s.reference() == set) || state.stray_slots.contains(&set)
    };
    if set.count == 0 || known(state) {
        return;
    }
    match sets.remove(&(family, set.base, set.count)) {
        Some(ids) if state.sets[kind].ids.is_empty() => state.sets[kind] = PortSet { base: set.base, ids },
        _ => state.stray_slots.push(set),
    }
}
