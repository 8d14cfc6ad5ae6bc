//! [`Services`] in plain memory.

use super::family::Family;
use super::memory::Memory;
use crate::abi::{
    AffinityKey, AffinityValue, BackendValue, Be16, FrontendKey, FrontendValue, SetRef, SourceRangeKey, filter,
};
use crate::datapath::{Host as _, Services};

/// Whether the first `prefix` bits agree.
fn agree<A: Family>(a: A, b: A, prefix: u32) -> bool {
    let bits = |x: A| x.bytes().into_iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
    bits(a).zip(bits(b)).take(prefix as usize).all(|(x, y)| x == y)
}

impl<A: Family> Services<A> for Memory<A> {
    fn may_be_frontend(&self, addr: A, port: Be16) -> bool {
        self.front_filter.holds(filter::address_hash(addr))
            || self.front_filter.holds(filter::endpoint_hash(addr, port))
    }

    fn may_be_frontend_port(&self, addr: A, port: Be16) -> bool {
        self.front_filter.holds(filter::endpoint_hash(addr, port))
    }

    fn may_be_backend(&self, addr: A, port: Be16) -> bool {
        self.back_filter.holds(filter::endpoint_hash(addr, port))
    }

    fn may_be_frontend_address(&self, addr: A) -> bool {
        self.address_filter.holds(filter::frontend_address_hash(addr))
    }

    fn may_be_backend_address(&self, addr: A) -> bool {
        self.address_filter.holds(filter::backend_address_hash(addr))
    }

    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        self.hash();
        self.frontends.get(key).copied()
    }

    fn turn(&self, set: SetRef) -> u32 {
        let mut turns = self.turns.borrow_mut();
        let next = turns.entry(set.base).or_insert_with(|| self.random() % set.count);
        let turn = if *next < set.count { *next } else { 0 };
        *next = turn + 1;
        turn
    }

    fn table(&self, set: u32, byte: u32) -> Option<u8> {
        self.hash();
        self.tables.get(&set)?.get(usize::try_from(byte).ok()?).copied()
    }

    fn slot(&self, index: u32) -> u32 {
        self.array();
        self.slots.get(&index).copied().unwrap_or(0)
    }

    fn backend(&self, id: u32) -> Option<BackendValue<A>> {
        self.array();
        let mut backend = self.backends.get(&id).copied().unwrap_or_default();
        if let Some((silent, answered)) = self.silence.borrow().get(&(id, backend.generation)) {
            (backend.silent, backend.answered) = (*silent, *answered);
        }
        Some(backend)
    }

    fn generation(&self, id: u32) -> u32 {
        self.backend(id).map_or(0, |backend| backend.generation)
    }

    fn set_silent(&self, id: u32, silent: u16) {
        let generation = self.backends.get(&id).map_or(0, |backend| backend.generation);
        self.silence.borrow_mut().entry((id, generation)).or_default().0 = silent;
    }

    fn set_answered(&self, id: u32, ticks: u32) {
        let generation = self.backends.get(&id).map_or(0, |backend| backend.generation);
        self.silence.borrow_mut().entry((id, generation)).or_default().1 = ticks;
    }

    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue> {
        self.hash();
        self.affinity.borrow().get(key).copied()
    }

    fn set_affinity(&self, key: &AffinityKey<A>, value: &AffinityValue) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn in_source_range(&self, key: &SourceRangeKey<A>) -> bool {
        self.hash();
        self.ranges.iter().any(|&(service, net, prefix)| service == key.service && agree(net, key.addr, prefix))
    }
}
