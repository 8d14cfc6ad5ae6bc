//! Turns a change into a transaction: every write that it needs, in the order in which a packet may see them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::table::Table;
use lb_common::abi::{FrontendValue, frontend_kind, tables};

use super::address::{self, Hold};
use super::maglev;
use super::op::{BackendEntry, Op, Vip};
use super::planner::Planner;
use super::port::{self, PortBackend, PortSet, PortState};
use super::removal::{self, Removal, free_port};
use super::schedule;
use super::transaction::{Staged, Transaction};
use crate::model::algorithm::Algorithm;
use crate::model::desired::{Change, DesiredPort, DesiredService, Refusal, ServiceName, SetKind};
use crate::model::family::Family;
use crate::model::reason::Reason;

/// Generations reserved at a time, so that a crash never leads to one being handed out twice.
const GENERATION_BLOCK: u32 = 65_536;

/// What there was not enough of.
#[derive(Clone, Copy, Debug)]
enum Shortage {
    Services,
    Backends,
    Slots,
    NameLength,
    Tables,
}

impl Planner {
    /// Works out what a change needs. Either all of it, or nothing and the reason.
    pub fn stage(&mut self, change: &Change) -> Result<Staged<'_>, Refusal> {
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
            shortage: None,
        };
        for want in ports {
            match self.stage_port(&mut txn, before.iter().find(|state| state.is(want)), want) {
                Ok(state) => txn.after.push(state),
                Err(shortage) => {
                    txn.before = before;
                    self.cancel(txn);
                    return Err(refusal(name, shortage, want.id.family));
                }
            }
        }
        for old in before.iter().filter(|old| !ports.iter().any(|want| old.is(want))) {
            free_port(&mut txn.freed, old);
        }
        self.stage_addresses(&mut txn, &before);
        txn.before = before;
        Ok(Staged::new(self, txn))
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
            let (flags, weight) = (port::backend_flags(*backend), backend.weight);
            let entry = |b: &PortBackend| {
                let PortBackend { addr, flags, weight, generation, .. } = *b;
                Op::PutBackend(family, b.id, BackendEntry { addr, flags, weight, generation, service: old.service })
            };
            if let Some(same) = before.next_if(|b| b.addr == *addr) {
                let now = PortBackend { flags, weight, ..*same };
                if now != *same {
                    txn.step(entry(&now), Some(entry(same)));
                }
                state.backends.push(now);
                continue;
            }
            let id = self.backend_ids[family].take().ok_or(Shortage::Backends)?;
            txn.taken.push(Removal::Backend(family, id));
            let now = PortBackend { addr: *addr, id, generation: self.generation(txn), flags, weight };
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
        let members = if port::uses(want, kind) { port::members(&state.backends, kind) } else { Vec::new() };
        let mut set = PortSet { base: 0, ids: schedule::slots(want.algorithm, &members), places: 0 };
        if want.algorithm == Algorithm::Maglev && !members.is_empty() {
            set.places = want.table_size.get();
        }
        let as_before =
            set.places == before.places && (set.places == 0 || members == port::members(&old.backends, kind));
        if set.ids == before.ids && as_before {
            state.sets[at] = before.clone();
            return Ok(());
        }
        if set.places > 0 && !self.has_room_for(family, set.blocks()) {
            txn.shortage = Some(refusal(&txn.name, Shortage::Tables, family));
            set.places = 0;
            if set.ids == before.ids && before.places == 0 {
                state.sets[at] = before.clone();
                return Ok(());
            }
        }
        txn.freed.extend(removal::of_set(family, before));
        if !set.ids.is_empty() {
            set.base = self.slots[family].take(set.reference().count).ok_or(Shortage::Slots)?;
            txn.taken.push(Removal::Slots(family, set.reference()));
            txn.step(Op::PutSlots { family, base: set.base, ids: set.ids.clone() }, None);
        }
        if set.places > 0 {
            self.put_table(txn, family, &set, &members);
        }
        state.sets[at] = set;
        Ok(())
    }

    fn has_room_for(&self, family: Family, blocks: u32) -> bool {
        self.blocks_in_use[family].saturating_add(blocks) <= self.block_limits[family]
    }

    fn put_table(&mut self, txn: &mut Transaction, family: Family, set: &PortSet, members: &[PortBackend]) {
        let blocks = set.blocks();
        if let Some(stray) = self.removals.take_table(family, set.base) {
            // An interrupted writer has left one in this place.
            txn.step(Op::DeleteTable(family, set.base, stray), None);
            self.give_back(Removal::Table(family, set.base, stray));
        }
        self.blocks_in_use[family] += blocks;
        txn.taken.push(Removal::Table(family, set.base, blocks));
        let members: Vec<(SocketAddr, u16)> = members.iter().map(|member| (member.addr, member.weight)).collect();
        let bytes = maglev::table(&members, set.places);
        txn.step(Op::PutTable { family, set: set.base, bytes }, Some(Op::DeleteTable(family, set.base, blocks)));
    }

    fn stage_frontends(&mut self, txn: &mut Transaction, old: &PortState, want: &DesiredPort, state: &mut PortState) {
        for frontend in &want.frontends {
            let vip = port::vip(want, frontend);
            state.frontends.push(vip);
            let value = port::frontend_value(want, frontend, state);
            self.flip(txn, vip, value);
            state.addresses.extend(Hold::of(&value).map(|hold| (vip.addr, hold)));
        }
        state.frontends.sort_unstable();
        state.frontends.dedup();
        state.addresses.sort_unstable_by_key(|(addr, _)| *addr);
        state.frontends.shrink_to_fit();
        state.addresses.shrink_to_fit();
        let gone = old.frontends.iter().filter(|vip| state.frontends.binary_search(vip).is_err());
        txn.freed.extend(gone.map(|vip| Removal::Frontend(*vip, old.service)));
    }

    /// The entries of the Service's addresses, as they are with all of its ports. Those that nobody has any more go with what
    /// is left behind.
    fn stage_addresses(&mut self, txn: &mut Transaction, before: &[PortState]) {
        let ports = before.iter().chain(&txn.after);
        let addresses: BTreeSet<IpAddr> = ports.flat_map(|state| &state.addresses).map(|(addr, _)| *addr).collect();
        for addr in addresses {
            let others = self.holders.get(&addr).into_iter().flatten();
            let others = others.filter(|hold| !before.iter().any(|state| state.service == hold.service));
            let own = txn.after.iter().flat_map(|state| &state.addresses).filter(|(of, _)| *of == addr);
            let Some(value) = address::entry(others.chain(own.map(|(_, hold)| hold)).copied()) else { continue };
            if value.kind == frontend_kind::KNOWN_VIP {
                self.widen(txn, addr);
            }
            self.flip(txn, Vip::of_address(addr), value);
        }
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
}

fn refusal(name: &ServiceName, shortage: Shortage, family: Family) -> Refusal {
    let ip = family.name();
    let raise = |table: Table| match table.setting() {
        Some(flag) => format!("raise {flag}, which takes effect after `sluice cleanup`"),
        None => "the size of their map is fixed".to_owned(),
    };
    let (reason, message) = match shortage {
        Shortage::Services => (Reason::ServicesFull, format!("no service id is left; {}", raise(tables::NAMES))),
        Shortage::Backends => (
            Reason::BackendsFull,
            format!("its endpoints do not fit into the {ip} backends; {}", raise(tables::BACKENDS)),
        ),
        Shortage::Slots => {
            (Reason::SlotsFull, format!("its backend set does not fit into the {ip} slots; {}", raise(tables::SLOTS)))
        }
        Shortage::Tables => {
            (Reason::TablesFull, format!("no room for its tables: it is served at random; {}", raise(tables::MAGLEV)))
        }
        Shortage::NameLength => (
            Reason::NameTooLong,
            "namespace, name and port name together are longer than a name in the maps; shorten one".to_owned(),
        ),
    };
    let (kind, object) = name.object();
    Refusal { kind, object, reason, message }
}
