//! The filters that let most packets go without a look-up (`lb_common::abi::filter`): which bits are set, and why.
//!
//! A filter may say yes too often, never no to a member. So a member's bits are there before its entry is, and go after
//! it. Those of a backend stay as long as flows to it are left, which the sweep finds out ([`LiveBackends`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use aya::maps::{Array, MapData};
use lb_common::abi::filter::{BACK_BLOCKS, Block, FRONT_BLOCKS, WORDS, address_hash, endpoint_hash, position};
use lb_common::abi::{Address, Be16, FrontendKey, frontend_scope, map_name};

use super::failure::TableFailure;
use super::pins::{open, read_failure, write_failure};
use crate::model::family::PerFamily;

/// Backends that had flows in the flow tables during a sweep, by the hash of their address and port.
#[derive(Clone, Debug)]
pub struct LiveBackends {
    /// When the sweep began. What went away later may still have flows.
    pub since: Instant,
    /// The hashes.
    pub hashes: PerFamily<HashSet<u64>>,
}

/// One filter: the kernel's map, and the members of each of its words.
struct Filter {
    map: Array<MapData, Block>,
    name: &'static str,
    blocks: u32,
    /// What the map holds.
    written: Vec<Block>,
    /// Members by word; a member is there as often as it was added.
    members: HashMap<(u32, u32), Vec<u64>>,
}

impl Filter {
    fn open(dir: &Path, name: &'static str, blocks: u32) -> Result<Self, TableFailure> {
        let map: Array<_, Block> = open(dir, name)?;
        let written = (0..blocks).map(|block| map.get(&block, 0)).collect::<Result<_, _>>();
        let written = written.map_err(read_failure(name))?;
        Ok(Self { map, name, blocks, written, members: HashMap::new() })
    }

    /// A member that is in the map already.
    fn adopt(&mut self, hash: u64) {
        let at = position(hash, self.blocks);
        self.members.entry((at.block, at.word)).or_default().push(hash);
    }

    fn add(&mut self, hash: u64) -> Result<(), TableFailure> {
        self.adopt(hash);
        let at = position(hash, self.blocks);
        let (block, word) = (at.block as usize, at.word as usize);
        let now = self.written[block][word];
        self.write(at.block, word, now | at.bits)
    }

    fn remove(&mut self, hash: u64) -> Result<(), TableFailure> {
        let at = position(hash, self.blocks);
        let Some(members) = self.members.get_mut(&(at.block, at.word)) else { return Ok(()) };
        if let Some(found) = members.iter().position(|member| *member == hash) {
            members.swap_remove(found);
        }
        let bits = members.iter().fold(0, |bits, member| bits | position(*member, self.blocks).bits);
        self.write(at.block, at.word as usize, bits)
    }

    fn write(&mut self, block: u32, word: usize, bits: u64) -> Result<(), TableFailure> {
        let shadow = &mut self.written[block as usize];
        if shadow[word] == bits {
            return Ok(());
        }
        let mut wanted = *shadow;
        wanted[word] = bits;
        self.map.set(block, wanted, 0).map_err(|source| write_failure(self.name, source))?;
        *shadow = wanted;
        Ok(())
    }

    /// Takes out what an earlier agent left: bits that are no member's.
    fn tidy(&mut self) -> Result<(), TableFailure> {
        let mut wanted = vec![[0; WORDS]; self.written.len()];
        for (&(block, word), members) in &self.members {
            wanted[block as usize][word as usize] =
                members.iter().fold(0, |bits, member| bits | position(*member, self.blocks).bits);
        }
        for (block, wanted) in (0..).zip(wanted) {
            if self.written[block as usize] != wanted {
                self.map.set(block, wanted, 0).map_err(|source| write_failure(self.name, source))?;
                self.written[block as usize] = wanted;
            }
        }
        Ok(())
    }
}

/// The filters of one address family.
pub(super) struct FamilyFilters<A> {
    frontends: Filter,
    backends: Filter,
    /// Hash of each frontend that is in the map.
    of_frontend: HashMap<FrontendKey<A>, u64>,
    /// Hash of each backend that is in the map, by its id.
    of_backend: HashMap<u32, u64>,
    /// Backends that went away, and when.
    retired: Vec<(u64, Instant)>,
    /// Bits of an earlier agent may be left.
    untidy: bool,
}

/// What a frontend adds: a `ClusterIP` by its address alone, since its other ports are refused; any other
/// with its port. Packets never look for those of loopback addresses.
fn frontend_hash<A: Address>(key: &FrontendKey<A>) -> Option<u64> {
    if key.scope == frontend_scope::HOST {
        return None;
    }
    let known_vip = key.port == Be16(0) && key.proto == 0;
    Some(if known_vip { address_hash(key.addr) } else { endpoint_hash(key.addr, key.port) })
}

impl<A: Address + std::hash::Hash> FamilyFilters<A> {
    /// `family`: index of the family's maps.
    pub(super) fn open(dir: &Path, family: usize) -> Result<Self, TableFailure> {
        Ok(Self {
            frontends: Filter::open(dir, map_name::FRONT_FILTER[family], FRONT_BLOCKS)?,
            backends: Filter::open(dir, map_name::BACK_FILTER[family], BACK_BLOCKS)?,
            of_frontend: HashMap::new(),
            of_backend: HashMap::new(),
            retired: Vec::new(),
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
                self.of_frontend.insert(key, hash);
            }
        }
        for (id, addr, port) in backends {
            let hash = endpoint_hash(addr, port);
            self.backends.adopt(hash);
            self.of_backend.insert(id, hash);
        }
    }

    /// A frontend is about to be written.
    pub(super) fn before_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), TableFailure> {
        let Some(hash) = frontend_hash(key) else { return Ok(()) };
        if !self.of_frontend.contains_key(key) {
            self.frontends.add(hash)?;
            self.of_frontend.insert(*key, hash);
        }
        Ok(())
    }

    /// A frontend is gone.
    pub(super) fn after_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), TableFailure> {
        match self.of_frontend.remove(key) {
            Some(hash) => self.frontends.remove(hash),
            None => Ok(()),
        }
    }

    /// A backend is about to be written.
    pub(super) fn before_backend(&mut self, id: u32, addr: A, port: Be16) -> Result<(), TableFailure> {
        let hash = endpoint_hash(addr, port);
        if self.of_backend.get(&id) == Some(&hash) {
            return Ok(());
        }
        self.backends.add(hash)?;
        if let Some(before) = self.of_backend.insert(id, hash) {
            self.retired.push((before, Instant::now()));
        }
        Ok(())
    }

    /// A backend is gone.
    pub(super) fn after_backend(&mut self, id: u32) {
        if let Some(hash) = self.of_backend.remove(&id) {
            self.retired.push((hash, Instant::now()));
        }
    }

    /// Only these backends have flows: others that are gone need not be known any more.
    pub(super) fn settle(&mut self, since: Instant, live: &HashSet<u64>) -> Result<(), TableFailure> {
        if self.untidy {
            // Backends that went away before this agent began.
            let known: HashSet<u64> = self.backends.members.values().flatten().copied().collect();
            for hash in live.difference(&known) {
                self.backends.adopt(*hash);
                self.retired.push((*hash, since));
            }
            self.frontends.tidy()?;
            self.backends.tidy()?;
            self.untidy = false;
        }
        let (over, left) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|(hash, gone)| *gone < since && !live.contains(hash));
        self.retired = left;
        let over: Vec<(u64, Instant)> = over;
        for (hash, _) in over {
            self.backends.remove(hash)?;
        }
        Ok(())
    }
}
