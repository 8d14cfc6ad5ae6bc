//! The adapter of the host: a packet's way through a hook, in plain memory.

use super::bytes::Bytes;
use super::family::Family;
use super::memory::Memory;
use super::node::{Action, Hook, Node, Outcome, gathered};
use crate::abi::filter::{backend_address_hash, endpoint_hash, frontend_address_hash, frontend_hash};
use crate::abi::held::CELL;
use crate::abi::{
    BackendValue, Counter, EventValue, FamilyConfig, FlowKey, FrontendKey, FrontendValue, HeldValue, StatsValue,
};
use crate::datapath::{Arrival, Frame, NextHop, Verdict, pipeline};
use crate::wire::{Read, Write, checksum, ethernet};

/// Largest packet that a device takes, as a fresh one has it.
pub const MTU: u16 = 1500;

/// A node in plain memory.
#[derive(Debug, Default)]
pub struct HostNode<A: Family> {
    /// Its tables.
    pub memory: Memory<A>,
    /// Packets that were put into a hook anew.
    replayed: Vec<Vec<u8>>,
}

/// A packet at a hook.
struct HostFrame {
    packet: Bytes,
    /// What was put into the hook anew.
    replayed: Vec<Vec<u8>>,
}

impl Read for HostFrame {
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        self.packet.u32s_at(offset)
    }

    fn u16_at(&self, offset: usize) -> Option<u16> {
        self.packet.u16_at(offset)
    }
}

impl Write for HostFrame {
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        self.packet.put_u32s(offset, words)
    }

    fn put_u16(&mut self, offset: usize, half: u16) -> Option<()> {
        self.packet.put_u16(offset, half)
    }
}

impl Frame for HostFrame {
    const L3: usize = ethernet::HEADER;
    const KERNEL_RESOLVES: bool = true;
    const REPLAYS: bool = true;
    const KERNEL_CLASSIFIES: bool = true;

    fn is_seen_elsewhere(&self, _arrival: Arrival) -> bool {
        false
    }

    fn is_for_this_host(&self) -> bool {
        false
    }

    fn is_addressed_to(&self, mac: (u32, u16)) -> bool {
        self.u32s_at(0) == Some([mac.0]) && self.u16_at(4) == Some(mac.1)
    }

    fn pull(&mut self) -> bool {
        false
    }

    fn mark_translated(&mut self) -> bool {
        true
    }

    fn patch_checksum(&mut self, field: usize, address: u16, port: u16, optional: bool, _v6: bool) -> Option<()> {
        checksum::patch(self, field, checksum::add(address, port), optional)
    }

    fn complete_checksum(&mut self, field: usize, pseudo: u16, rest: u16) -> Option<()> {
        self.put_u16(field, !checksum::add(pseudo, rest))
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        self.packet.0.resize(length, 0);
        Some(())
    }

    fn make_room(&mut self, bytes: usize) -> Option<()> {
        self.packet.0.splice(Self::L3..Self::L3, core::iter::repeat_n(0, bytes));
        Some(())
    }

    fn length(&self) -> Option<u16> {
        u16::try_from(self.packet.0.len()).ok()
    }

    fn copy_out(&self, at: u16, piece: &mut HeldValue) -> Option<()> {
        let from = self.packet.0.get(usize::from(at)..)?;
        let from = &from[..from.len().min(CELL)];
        piece.bytes[..from.len()].copy_from_slice(from);
        (piece.at, piece.length) = (at, u16::try_from(from.len()).ok()?);
        Some(())
    }

    fn copy_in(&mut self, piece: &HeldValue) -> Option<()> {
        let (at, length) = (usize::from(piece.at), usize::from(piece.length));
        self.packet.0.get_mut(at..at + length)?.copy_from_slice(&piece.bytes[..length]);
        Some(())
    }

    fn replay(&mut self, _arrival: Arrival) -> Option<()> {
        self.replayed.push(self.packet.0.clone());
        Some(())
    }

    fn send(&mut self, _ifindex: u32) -> Option<()> {
        self.replayed.push(self.packet.0.clone());
        Some(())
    }

    fn amount(&self, _datagram: u16) -> (u32, u32) {
        (1, u32::try_from(self.packet.0.len() - Self::L3).unwrap_or(u32::MAX))
    }

    fn unsegmented_len(&self, _datagram: u16) -> u16 {
        u16::try_from(self.packet.0.len() - Self::L3).unwrap_or(u16::MAX)
    }

    fn address(&mut self, _hop: &NextHop) -> Option<()> {
        Some(())
    }
}

impl<A: Family> Node<A> for HostNode<A> {
    fn reset(&mut self) {
        *self = Self::default();
    }

    fn set_config(&mut self, config: FamilyConfig<A>) {
        self.memory.config = config;
    }

    fn set_local(&mut self, devices: &[u32]) {
        self.memory.local = devices.to_vec();
    }

    fn set_frontend(&mut self, key: FrontendKey<A>, value: Option<FrontendValue>) {
        match value {
            Some(value) => {
                if let Some(hash) = frontend_hash(&key) {
                    self.memory.front_filter.add(hash);
                    self.memory.address_filter.add(frontend_address_hash(key.addr));
                }
                self.memory.frontends.insert(key, value)
            }
            None => self.memory.frontends.remove(&key),
        };
    }

    fn set_table(&mut self, set: u32, bytes: &[u8]) {
        self.memory.tables.insert(set, bytes.to_vec());
    }

    fn set_slot(&mut self, index: u32, backend: u32) {
        self.memory.slots.insert(index, backend);
    }

    fn set_backend(&mut self, id: u32, value: BackendValue<A>) {
        self.memory.back_filter.add(endpoint_hash(value.addr, value.port));
        self.memory.address_filter.add(backend_address_hash(value.addr));
        let before = self.memory.backends.insert(id, value);
        if before.is_none_or(|before| before.generation != value.generation) {
            self.memory.stats.borrow_mut().remove(&id);
        }
    }

    fn allow_range(&mut self, service: u32, net: A, prefix: u32) {
        self.memory.ranges.push((service, net, prefix));
    }

    fn forget(&mut self, key: &FlowKey<A>) {
        self.memory.flows.borrow_mut().remove(key);
        self.memory.half_open.borrow_mut().remove(key);
    }

    fn pass_seconds(&mut self, seconds: u64) {
        self.memory.now_ns.set(self.memory.now_ns.get() + seconds * 1_000_000_000);
    }

    fn send(&mut self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome {
        let mut frame = HostFrame { packet: Bytes(packet.to_vec()), replayed: Vec::new() };
        if frame.u16_at(ethernet::ETHERTYPE) != Some(A::ETHERTYPE) {
            return Outcome { action: Action::Pass, bytes: frame.packet.0 };
        }
        // As a test run has it: no packet comes from another device.
        let arrival = Arrival { ifindex, hook, from: if hook.is_ingress() { ifindex } else { 0 } };
        let outcome = pipeline::process::<A, _, _>(&mut frame, &self.memory, arrival);
        self.replayed.append(&mut frame.replayed);
        let action = match outcome.verdict() {
            Verdict::Pass | Verdict::Later => Action::Pass,
            Verdict::Drop => return Outcome { action: Action::Drop, bytes: Vec::new() },
            Verdict::Bounce => Action::Back,
            Verdict::Redirect | Verdict::RedirectPeer => Action::Route,
        };
        Outcome { action, bytes: frame.packet.0 }
    }

    fn replayed(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.replayed)
    }

    fn counter(&mut self, counter: Counter) -> u64 {
        self.memory.counters.borrow().get(&counter.index()).copied().unwrap_or(0)
    }

    fn causes(&mut self, service: u32, cause: Counter) -> u64 {
        self.memory.causes.borrow().get(&(service, cause.index())).copied().unwrap_or(0)
    }

    fn stats(&mut self, backend: u32) -> StatsValue {
        self.memory.stats.borrow().get(&backend).copied().unwrap_or_default()
    }

    fn gathered(&mut self, backend: u32) -> StatsValue {
        let (flows, half_open) = (self.memory.flows.borrow(), self.memory.half_open.borrow());
        gathered(flows.values().chain(half_open.values()).copied(), backend)
    }

    fn listen(&mut self) {
        self.memory.listener.is_there.set(true);
    }

    fn told(&mut self) -> Vec<EventValue<A>> {
        self.memory.listener.events.take()
    }

    fn flows(&mut self) -> (usize, usize) {
        (self.memory.flows.borrow().len(), self.memory.half_open.borrow().len())
    }
}
