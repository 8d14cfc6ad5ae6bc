//! Rebuilds the planner from what the maps hold, so that ids and generations outlive the agent, also when it died in
//! the middle of a write.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lb_common::abi::{FrontendValue, SetRef, algorithm, frontend_flag, frontend_kind};

use super::address::Hold;
use super::ids::IdPool;
use super::op::{BackendEntry, Existing, Limits, Vip};
use super::planner::Planner;
use super::port::{PortBackend, PortSet, PortState};
use super::removal::Removal;
use super::slots::SlotPool;
use crate::model::desired::{PortId, ServiceName};
use crate::model::family::Family;

impl Planner {
    /// A planner for maps that hold this. What belongs to no nameable Service is taken out with the first batch, and so is
    /// what no agent can have written: somebody else may have.
    pub fn restore(limits: &Limits, existing: Existing) -> Self {
        let mut planner = Self::empty(limits);
        planner.take_pools(limits, &existing);
        planner.vip_range = existing.vip_range;

        let mut ports: BTreeMap<u32, (ServiceName, PortState)> = BTreeMap::new();
        let mut named = HashSet::new();
        for (service, family, name) in by_use(&existing) {
            let is_own = (1..=limits.services).contains(service);
            match PortId::parse(name, *family).ok().filter(|port| is_own && named.insert(port.clone())) {
                Some(PortId { service: owner, port_name, protocol, family }) => {
                    let state = PortState::new(&port_name, protocol, family, *service);
                    ports.insert(*service, (owner, state));
                }
                None => planner.removals.add(Removal::Name(*service)),
            }
        }
        let mut backends = existing.backends;
        backends.sort_unstable_by_key(|(_, id, entry)| (entry.service, entry.addr, *id));
        for (family, id, entry) in backends {
            // Generations are reserved before they are used.
            let is_own = (1..existing.next_generation).contains(&entry.generation);
            let owner = ports.get_mut(&entry.service).filter(|(_, state)| state.family == family && is_own);
            let Some((_, state)) = owner else {
                planner.removals.add(Removal::Backend(family, id));
                continue;
            };
            if state.backends.last().is_some_and(|last| last.addr == entry.addr) {
                state.stray_backends.push(id);
                continue;
            }
            let BackendEntry { addr, flags, weight, generation, .. } = entry;
            state.backends.push(PortBackend { addr, id, generation, flags, weight });
        }
        for (service, net) in existing.ranges {
            match ports.get_mut(&service) {
                Some((_, state)) => state.ranges.push(net),
                None => planner.removals.add(Removal::Range(service, net)),
            }
        }
        let sound = sound_sets(limits, &existing.frontends);
        let sets = existing.sets.into_iter().map(|(family, set, ids)| ((family, set.base, set.count), ids));
        let mut sets: HashMap<(Family, u32, u32), Box<[u32]>> = sets.filter(|(set, _)| sound.contains(set)).collect();
        let mut frontends = existing.frontends;
        frontends.sort_unstable_by_key(|(vip, _)| *vip);
        for (vip, value) in &frontends {
            planner.take_frontend(&mut ports, &mut sets, *vip, value);
        }
        planner.take_tables(&mut ports, &existing.tables);
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
        let used: BTreeSet<u32> = names.chain(owners).filter(|id| (1..=limits.services).contains(id)).collect();
        self.service_ids = IdPool::new(limits.services.saturating_add(1), &used);
        for family in Family::ALL {
            let of_family = existing.backends.iter().filter(|(f, ..)| *f == family);
            self.backend_ids[family] = IdPool::new(limits.backends[family], &of_family.map(|(_, id, _)| *id).collect());
            let sets = existing.frontends.iter().filter(|(vip, _)| vip.family() == family);
            let sets = sets.flat_map(|(_, value)| [value.internal, value.external]);
            let limit = limits.slots[family];
            let used = sets.filter(|set| is_within(limit, *set)).map(|set| (set.base, set.count)).collect();
            self.slots[family] = SlotPool::new(limit, &used);
        }
        self.next_generation = existing.next_generation.max(1);
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
        if vip == Vip::of_address(vip.addr) {
            self.holders.entry(vip.addr).or_default();
            self.removals.add(Removal::Address(vip.addr));
            return;
        }
        let owner = ports.get_mut(&value.service).filter(|_| !frontend_kind::is_of_address(value.kind));
        let Some((_, state)) = owner else {
            self.removals.add(Removal::Frontend(vip, value.service));
            return;
        };
        state.frontends.push(vip);
        if let Some(hold) = Hold::of(value)
            && state.addresses.last().is_none_or(|(addr, _)| *addr != vip.addr)
        {
            state.addresses.push((vip.addr, hold));
            self.holders.entry(vip.addr).or_default().push(hold);
        }
        for (set, local_bit) in
            [(value.internal, frontend_flag::INTERNAL_LOCAL), (value.external, frontend_flag::EXTERNAL_LOCAL)]
        {
            take_set(state, sets, family, set, usize::from(value.flags & local_bit != 0));
            if value.algorithm == algorithm::MAGLEV {
                let taken = state.sets.iter_mut().filter(|known| !known.ids.is_empty() && known.reference() == set);
                taken.for_each(|known| known.places = value.schedule);
            }
        }
    }

    /// A set that has lost its table gets another one; a table that no set has goes.
    fn take_tables(&mut self, ports: &mut BTreeMap<u32, (ServiceName, PortState)>, tables: &[(Family, u32, u32)]) {
        let mut left: BTreeMap<(Family, u32), u32> =
            tables.iter().map(|(family, set, blocks)| ((*family, *set), *blocks)).collect();
        for (family, blocks) in left.iter().map(|((family, _), blocks)| (*family, *blocks)) {
            self.blocks_in_use[family] += blocks;
        }
        for (_, state) in ports.values_mut() {
            let family = state.family;
            for set in state.sets.iter_mut().filter(|set| set.places > 0) {
                let whole = left.get(&(family, set.base)).is_some_and(|blocks| *blocks == set.blocks());
                if whole {
                    left.remove(&(family, set.base));
                } else {
                    set.places = 0;
                }
            }
        }
        for ((family, set), blocks) in left {
            self.removals.add(Removal::Table(family, set, blocks));
        }
    }
}

/// Names, those first whose ids have the most frontends: of two ids of one port the other one is somebody else's.
fn by_use(existing: &Existing) -> Vec<&(u32, Family, String)> {
    let mut frontends: HashMap<u32, usize> = HashMap::new();
    for (_, value) in &existing.frontends {
        *frontends.entry(value.service).or_default() += 1;
    }
    let mut names: Vec<_> = existing.names.iter().collect();
    names.sort_by_key(|(service, ..)| (Reverse(frontends.get(service).copied().unwrap_or(0)), *service));
    names
}

/// Whether a set is one, and all of its slots are there.
fn is_within(limit: u32, set: SetRef) -> bool {
    set.count > 0 && set.base.checked_add(set.count).is_some_and(|end| end <= limit)
}

/// Sets that share no slot with others: an agent makes no other ones. The slots of those that do are used again only by the
/// next agent.
fn sound_sets(limits: &Limits, frontends: &[(Vip, FrontendValue)]) -> HashSet<(Family, u32, u32)> {
    let all: BTreeSet<(Family, u32, u32)> = frontends
        .iter()
        .flat_map(|(vip, value)| [(vip.family(), value.internal), (vip.family(), value.external)])
        .filter(|(family, set)| is_within(limits.slots[*family], *set))
        .map(|(family, set)| (family, set.base, set.count))
        .collect();
    let mut sound: HashSet<(Family, u32, u32)> = all.iter().copied().collect();
    let mut widest: Option<(Family, u32, u32)> = None;
    for set @ (family, base, count) in all {
        match widest {
            Some(before @ (of, from, many)) if of == family && base < from + many => {
                sound.remove(&before);
                sound.remove(&set);
                if base + count > from + many {
                    widest = Some(set);
                }
            }
            _ => widest = Some(set),
        }
    }
    sound
}

/// The first range seen of a kind is the port's set; another one is what an interrupted flip left behind. One that is another
/// port's, or not sound, is neither.
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
        Some(ids) if state.sets[kind].ids.is_empty() => state.sets[kind] = PortSet { base: set.base, ids, places: 0 },
        Some(_) => state.stray_slots.push(set),
        None => {}
    }
}
