//! The filters that let most packets go without a look-up (`lb_common::abi::filter`): which bits are set, and why.
//!
//! A filter may say yes too often, never no to a member. So a member's bits are there before its entry is, and go after
//! it. Those of a frontend or backend stay as long as it has flows, which the sweep finds out ([`LiveFlows`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use lb_common::abi::filter::{
    ADDRESS_BLOCKS, BACK_BLOCKS, Block, FRONT_BLOCKS, WORDS, backend_address_hash, endpoint_hash,
    frontend_address_hash, frontend_hash, position,
};
use lb_common::abi::{Address, Be16, FrontendKey, map_name};

use super::failure::TableFailure;
use super::mapped::MappedArray;
use crate::model::family::PerFamily;

/// What had flows in the flow tables during a sweep.
#[derive(Clone, Debug)]
pub struct LiveFlows {
    /// When the sweep began. What went away later may still have flows.
    pub since: Instant,
    /// The ends of the flows.
    pub ends: PerFamily<FlowEnds>,
}

/// Frontends and backends of flows, by the hashes that the filters know them by.
#[derive(Clone, Debug, Default)]
pub struct FlowEnds {
    /// A frontend's address with its port, and the address alone: it is known by one of them.
    pub frontends: HashMap<u64, u64>,
    /// A backend's address with its port.
    pub backends: HashSet<u64>,
    /// The addresses of both.
    pub addresses: HashSet<u64>,
}

/// One filter: the kernel's map, and the members of each of its words.
struct Filter {
    map: MappedArray<Block>,
    blocks: u32,
    /// Members by word; a member is there as often as it was added.
    members: HashMap<(u32, u32), Vec<u64>>,
}

impl Filter {
    fn open(dir: &Path, name: &'static str, blocks: u32) -> Result<Self, TableFailure> {
        Ok(Self { map: MappedArray::open(dir, name)?, blocks, members: HashMap::new() })
    }

    /// A member that is in the map already.
    fn adopt(&mut self, hash: u64) {
        let at = position(hash, self.blocks);
        self.members.entry((at.block, at.word)).or_default().push(hash);
    }

    fn add(&mut self, hash: u64) -> Result<(), TableFailure> {
        self.adopt(hash);
        let at = position(hash, self.blocks);
        let now = self.block(at.block)?[at.word as usize];
        self.write(at.block, at.word, now | at.bits)
    }

    fn remove(&mut self, hash: u64) -> Result<(), TableFailure> {
        let at = position(hash, self.blocks);
        let Some(members) = self.members.get_mut(&(at.block, at.word)) else { return Ok(()) };
        if let Some(found) = members.iter().position(|member| *member == hash) {
            members.swap_remove(found);
        }
        let bits = bits_of(members, self.blocks);
        self.write(at.block, at.word, bits)
    }

    /// All members.
    fn known(&self) -> HashSet<u64> {
        self.members.values().flatten().copied().collect()
    }

    fn block(&self, index: u32) -> Result<Block, TableFailure> {
        Ok(self.map.get(index)?.unwrap_or_default())
    }

    fn write(&mut self, index: u32, word: u32, bits: u64) -> Result<(), TableFailure> {
        let mut block = self.block(index)?;
        block[word as usize] = bits;
        self.map.set(index, block)
    }

    /// Takes out what an earlier agent left: bits that are no member's.
    fn tidy(&mut self) -> Result<(), TableFailure> {
        let mut wanted = vec![[0; WORDS]; self.blocks as usize];
        for (&(block, word), members) in &self.members {
            wanted[block as usize][word as usize] = bits_of(members, self.blocks);
        }
        (0..).zip(wanted).try_for_each(|(index, block)| self.map.set(index, block))
    }
}

/// The bits of members of one word.
fn bits_of(members: &[u64], blocks: u32) -> u64 {
    members.iter().fold(0, |bits, member| bits | position(*member, blocks).bits)
}

/// Members that went away, and when: their bits stay until a later sweep has found no flow of theirs.
#[derive(Default)]
struct Retired(Vec<(u64, Instant)>);

impl Retired {
    fn push(&mut self, hash: u64) {
        self.0.push((hash, Instant::now()));
    }

    /// Takes those out of the filter that are in use no more.
    fn settle(
        &mut self,
        filter: &mut Filter,
        since: Instant,
        in_use: impl Fn(&u64) -> bool,
    ) -> Result<(), TableFailure> {
        let (over, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(hash, gone)| *gone < since && !in_use(hash));
        self.0 = left;
        for (hash, _) in over {
            filter.remove(hash)?;
        }
        Ok(())
    }

    /// What an earlier agent took away although it is in use: its bits are there.
    fn inherit(&mut self, filter: &mut Filter, hash: u64, since: Instant) {
        filter.adopt(hash);
        self.0.push((hash, since));
    }
}

/// The filters of one address family.
pub(super) struct FamilyFilters<A> {
    frontends: Filter,
    backends: Filter,
    addresses: Filter,
    /// Hash of each frontend that is in the map.
    of_frontend: HashMap<FrontendKey<A>, u64>,
    /// Hashes of each backend that is in the map and of its address, by its id.
    of_backend: HashMap<u32, [u64; 2]>,
    retired_frontends: Retired,
    retired_backends: Retired,
    retired_addresses: Retired,
    /// Bits of an earlier agent may be left.
    untidy: bool,
}

impl<A: Address + std::hash::Hash> FamilyFilters<A> {
    /// `family`: index of the family's maps.
    pub(super) fn open(dir: &Path, family: usize) -> Result<Self, TableFailure> {
        Ok(Self {
            frontends: Filter::open(dir, map_name::FRONT_FILTER[family], FRONT_BLOCKS)?,
            backends: Filter::open(dir, map_name::BACK_FILTER[family], BACK_BLOCKS)?,
            addresses: Filter::open(dir, map_name::ADDRESS_FILTER[family], ADDRESS_BLOCKS)?,
            of_frontend: HashMap::new(),
            of_backend: HashMap::new(),
            retired_frontends: Retired::default(),
            retired_backends: Retired::default(),
            retired_addresses: Retired::default(),
            untidy: true,
        })
    }

    /// Takes over what an earlier agent has written: its members' bits are there.
    pub(super) fn adopt(
        &mut self,
        frontends: impl Iterator<Item = FrontendKey<A>>,
        backends: impl Iterator<Item = (u32, A, Be16)>,
    ) {
        for key in frontends {
            if let Some(hash) = frontend_hash(&key) {
                self.frontends.adopt(hash);
                self.addresses.adopt(frontend_address_hash(key.addr));
                self.of_frontend.insert(key, hash);
            }
        }
        for (id, addr, port) in backends {
            let hashes = [endpoint_hash(addr, port), backend_address_hash(addr)];
            self.backends.adopt(hashes[0]);
            self.addresses.adopt(hashes[1]);
            self.of_backend.insert(id, hashes);
        }
    }

    /// A frontend is about to be written.
    pub(super) fn before_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), TableFailure> {
        let Some(hash) = frontend_hash(key) else { return Ok(()) };
        if !self.of_frontend.contains_key(key) {
            self.frontends.add(hash)?;
            self.addresses.add(frontend_address_hash(key.addr))?;
            self.of_frontend.insert(*key, hash);
        }
        Ok(())
    }

    /// A frontend is gone.
    pub(super) fn after_frontend(&mut self, key: &FrontendKey<A>) {
        if let Some(hash) = self.of_frontend.remove(key) {
            self.retired_frontends.push(hash);
            self.retired_addresses.push(frontend_address_hash(key.addr));
        }
    }

    /// A backend is about to be written.
    pub(super) fn before_backend(&mut self, id: u32, addr: A, port: Be16) -> Result<(), TableFailure> {
        let hashes = [endpoint_hash(addr, port), backend_address_hash(addr)];
        if self.of_backend.get(&id) == Some(&hashes) {
            return Ok(());
        }
        self.backends.add(hashes[0])?;
        self.addresses.add(hashes[1])?;
        if let Some(before) = self.of_backend.insert(id, hashes) {
            self.retire_backend(before);
        }
        Ok(())
    }

    /// A backend is gone.
    pub(super) fn after_backend(&mut self, id: u32) {
        if let Some(hashes) = self.of_backend.remove(&id) {
            self.retire_backend(hashes);
        }
    }

    fn retire_backend(&mut self, [backend, address]: [u64; 2]) {
        self.retired_backends.push(backend);
        self.retired_addresses.push(address);
    }

    /// Only these have flows: others that are gone need not be known any more.
    pub(super) fn settle(&mut self, since: Instant, live: &FlowEnds) -> Result<(), TableFailure> {
        if self.untidy {
            self.inherit(since, live);
            self.frontends.tidy()?;
            self.backends.tidy()?;
            self.addresses.tidy()?;
            self.untidy = false;
        }
        let addresses: HashSet<u64> = live.frontends.values().copied().collect();
        let in_use = |hash: &u64| live.frontends.contains_key(hash) || addresses.contains(hash);
        self.retired_frontends.settle(&mut self.frontends, since, in_use)?;
        self.retired_backends.settle(&mut self.backends, since, |hash| live.backends.contains(hash))?;
        self.retired_addresses.settle(&mut self.addresses, since, |hash| live.addresses.contains(hash))
    }

    /// What went away before this agent began, and has flows.
    fn inherit(&mut self, since: Instant, live: &FlowEnds) {
        let known = self.frontends.known();
        for (endpoint, address) in &live.frontends {
            if !known.contains(endpoint) && !known.contains(address) {
                self.retired_frontends.inherit(&mut self.frontends, *endpoint, since);
            }
        }
        for hash in live.backends.difference(&self.backends.known()) {
            self.retired_backends.inherit(&mut self.backends, *hash, since);
        }
        for hash in live.addresses.difference(&self.addresses.known()) {
            self.retired_addresses.inherit(&mut self.addresses, *hash, since);
        }
    }
}
