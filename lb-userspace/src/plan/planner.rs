//! Keeps ids and what is written, and turns each change into a transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use lb_common::abi::FrontendValue;

use super::ids::IdPool;
use super::op::{BackendEntry, Existing, Limits, Op, Vip};
use super::port::{self, PortBackend, PortSet, PortState};
use super::removal::{Removal, Removals};
use super::slots::SlotPool;
use crate::model::desired::{Change, DesiredPort, DesiredService, Refusal, ServiceName, SetKind};
use crate::model::family::{Family, PerFamily};
use crate::model::reason::Reason;

/// Generations reserved at a time, so that a crash never leads to one being handed out twice.
const GENERATION_BLOCK: u32 = 65_536;

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
pub struct Transaction {
    /// In this order.
    pub steps: Vec<Step>,
    name: ServiceName,
    before: Vec<PortState>,
    after: Vec<PortState>,
    flips: Vec<(Vip, FrontendValue)>,
    taken: Vec<Removal>,
    freed: Vec<Removal>,
    range_before: PerFamily<Option<(IpAddr, IpAddr)>>,
    reserved_before: u32,
}

impl Transaction {
    /// The Service.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    fn step(&mut self, op: Op, undo: Option<Op>) {
        self.steps.push(Step { op, undo });
    }
}

/// What there was not enough of.
#[derive(Clone, Copy, Debug)]
enum Shortage {
    Services,
    Backends,
    Slots,
    NameLength,
}

/// The planner. See the module's chart.
#[derive(Debug)]
pub struct Planner {
    pub(super) services: HashMap<ServiceName, Vec<PortState>>,
    pub(super) written: HashMap<Vip, FrontendValue>,
    pub(super) holders: BTreeMap<IpAddr, Vec<u32>>,
    pub(super) vip_range: PerFamily<Option<(IpAddr, IpAddr)>>,
    pub(super) service_ids: IdPool,
    pub(super) backend_ids: PerFamily<IdPool>,
    pub(super) slots: PerFamily<SlotPool>,
    slot_limits: PerFamily<u32>,
    pub(super) next_generation: u32,
    pub(super) reserved: u32,
    pub(super) removals: Removals,
    /// Services found in the maps that no source has spoken of yet.
    pub(super) unclaimed: BTreeSet<ServiceName>,
    freed_room: bool,
}

impl Planner {
    /// A planner for empty maps.
    pub fn new(limits: &Limits) -> Self {
        Self::restore(limits, Existing::default())
    }

    pub(super) fn empty(limits: &Limits) -> Self {
        let none = BTreeSet::new();
        let ranges = BTreeSet::new();
        Self {
            services: HashMap::new(),
            written: HashMap::new(),
            holders: BTreeMap::new(),
            vip_range: PerFamily::default(),
            service_ids: IdPool::new(limits.services.saturating_add(1), &none),
            backend_ids: PerFamily::from_fn(|family| IdPool::new(limits.backends[family], &none)),
            slots: PerFamily::from_fn(|family| SlotPool::new(limits.slots[family], &ranges)),
            slot_limits: limits.slots,
            next_generation: 1,
            reserved: 1,
            removals: Removals::default(),
            unclaimed: BTreeSet::new(),
            freed_room: false,
        }
    }

    /// A new batch begins: ids and slots that the last one freed may be used again.
    pub fn begin(&mut self) {
        self.service_ids.release();
        self.backend_ids.each_mut().into_iter().for_each(IdPool::release);
        self.slots.each_mut().into_iter().for_each(SlotPool::release);
    }

    /// Whether room has appeared since the last call: the moment to try again what did not fit.
    pub fn take_freed_room(&mut self) -> bool {
        std::mem::take(&mut self.freed_room)
    }

    /// Number of Services with something written.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// Slots in use, per family.
    pub fn slots_in_use(&self) -> PerFamily<usize> {
        PerFamily::from_fn(|family| {
            let limit = usize::try_from(self.slot_limits[family]).unwrap_or(usize::MAX);
            limit.saturating_sub(self.slots[family].free())
        })
    }

    /// Services found in the maps that no change has named since: to be removed once the source has spoken in full.
    pub fn unclaimed(&self) -> Vec<ServiceName> {
        self.unclaimed.iter().cloned().collect()
    }

    /// Works out what a change needs. Either all of it, or nothing and the reason. A staged transaction must be
    /// committed or aborted before the next one is staged.
    pub fn stage(&mut self, change: &Change) -> Result<Transaction, Refusal> {
        let (name, ports): (_, &[DesiredPort]) = match change {
            Change::Upsert(DesiredService { name, ports, .. }) => (name, ports),
            Change::Remove(name) => (name, &[]),
        };
        self.unclaimed.remove(name);
        let before = self.services.remove(name).unwrap_or_default();
        let mut txn = Transaction {
            steps: Vec::new(),
            name: name.clone(),
            before: Vec::new(),
            after: Vec::with_capacity(ports.len()),
            flips: Vec::new(),
            taken: Vec::new(),
            freed: Vec::new(),
            range_before: self.vip_range,
            reserved_before: self.reserved,
        };
        for want in ports {
            match self.stage_port(&mut txn, before.iter().find(|state| state.is(want)), want) {
                Ok(state) => txn.after.push(state),
                Err(shortage) => {
                    txn.before = before;
                    self.abort(txn);
                    return Err(refusal(name, shortage, want.id.family));
                }
            }
        }
        for old in before.iter().filter(|old| !ports.iter().any(|want| old.is(want))) {
            free_port(&mut txn.freed, old);
        }
        txn.before = before;
        Ok(txn)
    }

    fn stage_port(
        &mut self,
        txn: &mut Transaction,
        old: Option<&PortState>,
        want: &DesiredPort,
    ) -> Result<PortState, Shortage> {
        let family = want.id.family;
        let service = match old {
            Some(old) => old.service,
            None => self.name_service(txn, want)?,
        };
        let mut state = PortState::new(&want.id.port_name, want.id.protocol, family, service);
        let blank = PortState::new("", want.id.protocol, family, service);
        let old = old.unwrap_or(&blank);
        self.stage_backends(txn, old, want, &mut state)?;
        for kind in [SetKind::Cluster, SetKind::Local] {
            self.stage_set(txn, old, want, &mut state, kind)?;
        }
        state.ranges.clone_from(&want.source_ranges);
        state.ranges.sort_unstable();
        state.ranges.dedup();
        for net in state.ranges.iter().filter(|net| !old.ranges.contains(net)) {
            txn.step(Op::PutRange(service, *net), Some(Op::DeleteRange(service, *net)));
        }
        for net in old.ranges.iter().filter(|net| !state.ranges.contains(net)) {
            txn.freed.push(Removal::Range(service, *net));
        }
        self.stage_frontends(txn, old, want, &mut state);
        txn.freed.extend(old.stray_slots.iter().map(|set| Removal::Slots(family, *set)));
        txn.freed.extend(old.stray_backends.iter().map(|id| Removal::Backend(family, *id)));
        Ok(state)
    }

    fn name_service(&mut self, txn: &mut Transaction, want: &DesiredPort) -> Result<u32, Shortage> {
        let name = want.id.to_string();
        if name.len() > lb_common::abi::NAME_LEN {
            return Err(Shortage::NameLength);
        }
        let service = self.service_ids.take().ok_or(Shortage::Services)?;
        txn.taken.push(Removal::Name(service));
        let family = want.id.family;
        txn.step(Op::PutName { service, family, name }, Some(Op::DeleteName(service)));
        Ok(service)
    }

    fn stage_backends(
        &mut self,
        txn: &mut Transaction,
        old: &PortState,
        want: &DesiredPort,
        state: &mut PortState,
    ) -> Result<(), Shortage> {
        let family = state.family;
        let pool = &self.backend_ids[family];
        if want.backends.len() > pool.available() + old.backends.len() {
            return Err(Shortage::Backends);
        }
        state.backends.reserve_exact(want.backends.len());
        let mut before = old.backends.iter().peekable();
        for (addr, backend) in &want.backends {
            while let Some(gone) = before.next_if(|b| b.addr < *addr) {
                txn.freed.push(Removal::Backend(family, gone.id));
            }
            let flags = port::backend_flags(*backend);
            let entry = |b: &PortBackend| {
                let entry =
                    BackendEntry { addr: b.addr, flags: b.flags, generation: b.generation, service: old.service };
                Op::PutBackend(family, b.id, entry)
            };
            if let Some(same) = before.next_if(|b| b.addr == *addr) {
                let now = PortBackend { flags, ..*same };
                if now != *same {
                    txn.step(entry(&now), Some(entry(same)));
                }
                state.backends.push(now);
                continue;
            }
            let id = self.backend_ids[family].take().ok_or(Shortage::Backends)?;
            txn.taken.push(Removal::Backend(family, id));
            let now = PortBackend { addr: *addr, id, generation: self.generation(txn), flags };
            txn.step(entry(&now), Some(Op::DeleteBackend(family, id)));
            state.backends.push(now);
        }
        txn.freed.extend(before.map(|gone| Removal::Backend(family, gone.id)));
        Ok(())
    }

    fn stage_set(
        &mut self,
        txn: &mut Transaction,
        old: &PortState,
        want: &DesiredPort,
        state: &mut PortState,
        kind: SetKind,
    ) -> Result<(), Shortage> {
        let (family, at) = (state.family, port::set_index(kind));
        let before = &old.sets[at];
        let ids = if port::uses(want, kind) { port::members(&state.backends, kind) } else { Box::default() };
        if ids == before.ids {
            state.sets[at] = before.clone();
            return Ok(());
        }
        if !before.ids.is_empty() {
            txn.freed.push(Removal::Slots(family, before.reference()));
        }
        if !ids.is_empty() {
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let base = self.slots[family].take(count).ok_or(Shortage::Slots)?;
            state.sets[at] = PortSet { base, ids: ids.clone() };
            txn.taken.push(Removal::Slots(family, state.sets[at].reference()));
            txn.step(Op::PutSlots { family, base, ids }, None);
        }
        Ok(())
    }

    fn stage_frontends(&mut self, txn: &mut Transaction, old: &PortState, want: &DesiredPort, state: &mut PortState) {
        for frontend in &want.frontends {
            let vip = port::vip(want, frontend);
            state.frontends.push(vip);
            self.flip(txn, vip, port::frontend_value(want, frontend, state));
            if frontend.kind == crate::model::desired::FrontendKind::ClusterIp {
                state.cluster_ips.push(vip.addr);
            }
        }
        state.frontends.sort_unstable();
        state.frontends.dedup();
        state.cluster_ips.sort_unstable();
        state.cluster_ips.dedup();
        state.frontends.shrink_to_fit();
        state.cluster_ips.shrink_to_fit();
        for addr in &state.cluster_ips {
            let marked = Vip::known(*addr);
            if !self.written.contains_key(&marked) && !txn.flips.iter().any(|(vip, _)| *vip == marked) {
                self.widen(txn, *addr);
                self.flip(txn, marked, port::known_vip_value(state.service));
            }
        }
        let gone = old.frontends.iter().filter(|vip| state.frontends.binary_search(vip).is_err());
        txn.freed.extend(gone.map(|vip| Removal::Frontend(*vip, old.service)));
    }

    fn flip(&self, txn: &mut Transaction, vip: Vip, value: FrontendValue) {
        let before = self.written.get(&vip);
        if before != Some(&value) {
            let undo = before.map_or(Op::DeleteFrontend(vip), |before| Op::PutFrontend(vip, *before));
            txn.step(Op::PutFrontend(vip, value), Some(undo));
            txn.flips.push((vip, value));
        }
    }

    /// Makes room in the range of known `ClusterIP`s.
    fn widen(&mut self, txn: &mut Transaction, addr: IpAddr) {
        let family = Family::of(&addr);
        let range = &mut self.vip_range[family];
        let wide = range.map_or((addr, addr), |(lo, hi)| (lo.min(addr), hi.max(addr)));
        if *range != Some(wide) {
            txn.step(Op::SetVipRange(family, Some(wide)), Some(Op::SetVipRange(family, *range)));
            *range = Some(wide);
        }
    }

    fn generation(&mut self, txn: &mut Transaction) -> u32 {
        if self.next_generation >= self.reserved {
            self.reserved = self.next_generation.saturating_add(GENERATION_BLOCK);
            txn.step(Op::ReserveGenerations(self.reserved), None);
        }
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(1);
        generation
    }

    /// Every step is in the maps.
    pub fn commit(&mut self, txn: Transaction) {
        self.written.extend(txn.flips);
        for state in &txn.after {
            for addr in &state.cluster_ips {
                let holders = self.holders.entry(*addr).or_default();
                if !holders.contains(&state.service) {
                    holders.push(state.service);
                }
            }
            for vip in &state.frontends {
                self.removals.keep_frontend(vip);
            }
            for net in &state.ranges {
                self.removals.keep_range(state.service, *net);
            }
        }
        for old in &txn.before {
            let now = txn.after.iter().find(|state| state.service == old.service);
            for addr in &old.cluster_ips {
                if !now.is_some_and(|now| now.cluster_ips.contains(addr)) {
                    if let Some(holders) = self.holders.get_mut(addr) {
                        holders.retain(|service| *service != old.service);
                    }
                    self.removals.add(Removal::Known(*addr));
                }
            }
        }
        for removal in txn.freed {
            self.removals.add(removal);
        }
        if !txn.after.is_empty() {
            self.services.insert(txn.name, txn.after);
        }
    }

    /// A step failed and those before it were taken back: the Service stays as it was.
    pub fn abort(&mut self, txn: Transaction) {
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

    /// A step failed and it could not be taken back: as [`Planner::abort`], but what it took is not used again.
    pub fn abandon(&mut self, mut txn: Transaction) {
        txn.taken.clear();
        self.abort(txn);
    }

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
            Removal::Known(addr) => {
                let (marked, holders) = (Vip::known(addr), self.holders.get(&addr));
                let written = self.written.get(&marked)?;
                match holders.and_then(|holders| holders.first()) {
                    None => Some(Op::DeleteFrontend(marked)),
                    Some(first) if holders.is_some_and(|all| all.contains(&written.service)) => {
                        debug_assert!(*first != 0, "service id 0 is never handed out");
                        None
                    }
                    Some(first) => Some(Op::PutFrontend(marked, port::known_vip_value(*first))),
                }
            }
            Removal::Range(service, net) => Some(Op::DeleteRange(service, net)),
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
        if let Removal::Known(addr) = removal
            && self.holders.get(addr).is_some_and(Vec::is_empty)
        {
            self.holders.remove(addr);
        }
        self.removals.done(removal);
        self.give_back(*removal);
        self.freed_room = true;
    }

    fn give_back(&mut self, removal: Removal) {
        match removal {
            Removal::Name(service) => self.service_ids.put(service),
            Removal::Backend(family, id) => self.backend_ids[family].put(id),
            Removal::Slots(family, set) => self.slots[family].put(set.base, set.count),
            Removal::Frontend(..) | Removal::Known(_) | Removal::Range(..) => {}
        }
    }

    /// Shrinks the range of known `ClusterIP`s to those that are left.
    pub fn narrow(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for family in Family::ALL {
            let first_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let mut of_family = match family {
                Family::V4 => self.holders.range(..first_v6),
                Family::V6 => self.holders.range(first_v6..),
            };
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

/// Everything of a port that goes away.
pub(super) fn free_port(freed: &mut Vec<Removal>, old: &PortState) {
    let family = old.family;
    freed.extend(old.frontends.iter().map(|vip| Removal::Frontend(*vip, old.service)));
    freed.extend(old.ranges.iter().map(|net| Removal::Range(old.service, *net)));
    let sets = old.sets.iter().map(PortSet::reference).filter(|set| set.count > 0);
    freed.extend(sets.chain(old.stray_slots.iter().copied()).map(|set| Removal::Slots(family, set)));
    let backends = old.backends.iter().map(|b| b.id).chain(old.stray_backends.iter().copied());
    freed.extend(backends.map(|id| Removal::Backend(family, id)));
    freed.push(Removal::Name(old.service));
}

fn refusal(name: &ServiceName, shortage: Shortage, family: Family) -> Refusal {
    let ip = family.name();
    let (reason, message) = match shortage {
        Shortage::Services => (
            Reason::ServicesFull,
            "no service id is left; raise --max-services, which takes effect after `sluice cleanup`".to_owned(),
        ),
        Shortage::Backends => (
            Reason::BackendsFull,
            format!(
                "its endpoints do not fit into the {ip} backends; raise --max-backends, which takes effect after `sluice cleanup`"
            ),
        ),
        Shortage::Slots => (
            Reason::SlotsFull,
            format!(
                "its backend set does not fit into the {ip} slots; raise --max-slots, which takes effect after `sluice cleanup`"
            ),
        ),
        Shortage::NameLength => (
            Reason::NameTooLong,
            "namespace, name and port name together are longer than a name in the maps; shorten one".to_owned(),
        ),
    };
    Refusal { kind: "Service", object: name.to_string(), reason, message }
}
