//! Services and what happens to them by choice, and packets that have to do with them and with earlier packets.

use std::collections::{HashMap, VecDeque};

use super::super::family::Family;
use super::super::node::{Action, Hook, Node, Outcome, UPLINK2};
use super::super::scene::Scene;
use super::super::service::{Endpoint, Service};
use super::packets::{Ends, packet};
use super::segment;
use super::tape::Tape;
use crate::abi::{Be16, FlowKey, backend_flag, config_flag, frontend_flag, frontend_kind, proto};

const HOOKS: [Hook; 4] = [Hook::PodIngress, Hook::UplinkIngress, Hook::PodEgress, Hook::UplinkEgress];
const PORTS: [u16; 4] = [40_000, 40_001, 61_000, 53];
/// Conversations remembered.
const MEMORY: usize = 24;
/// Slots of one Service's sets.
const SLOTS: u32 = 128;

/// How much is left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Several endpoints, many SNAT ports: for one node alone.
    Free,
    /// One endpoint in each set and one SNAT port: two nodes do the same.
    Fixed,
}

/// A packet into a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The hook.
    pub hook: Hook,
    /// Its device.
    pub ifindex: u32,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conversation<A> {
    protocol: u8,
    ends: Ends<A>,
}

/// Services, and conversations so far.
#[derive(Debug)]
pub struct World<A> {
    chance: Chance,
    services: Vec<Service<A>>,
    talks: VecDeque<Conversation<A>>,
    /// TCP: the number behind the newest byte that a sender has sent.
    numbers: HashMap<FlowKey<A>, u32>,
}

impl<A: Family> World<A> {
    /// Sets up the nodes alike.
    pub fn new(tape: &mut Tape<'_>, chance: Chance, nodes: &mut [&mut dyn Node<A>]) -> Self {
        let mut config = Scene::<A>::config();
        let flags = [config_flag::DETECT_LOCAL, 0, config_flag::MASQUERADE_ALL, config_flag::LOCAL_DEVICES];
        config.flags = tape.pick(&flags) | tape.pick(&[0, 0, 0, config_flag::TAKEOVER]);
        if chance == Chance::Fixed {
            config.snat_hi = config.snat_lo;
        } else if tape.one_in(4) {
            config.snat_hi = Be16::new(config.snat_lo.get() + 3);
        }
        let local: &[u32] = tape.pick(&[&[][..], &[UPLINK2], &[super::super::node::POD]]);
        let count = 1 + tape.below(4);
        let kinds: Vec<_> = (0..count).map(|_| tape.below(4)).collect();
        let mut world = Self { chance, services: Vec::new(), talks: VecDeque::new(), numbers: HashMap::new() };
        for (id, kind) in (1..).zip(kinds) {
            world.services.push(world.service(tape, id, kind));
        }
        for node in nodes {
            Scene::new("fuzz", *node);
            node.set_config(config);
            node.set_local(local);
            for service in &world.services {
                service.write(*node);
                if service.flags & frontend_flag::SOURCE_RANGES != 0 {
                    node.allow_range(service.id, A::POD, A::BITS);
                    node.allow_range(service.id, A::CLIENT, A::BITS - 8);
                }
            }
        }
        world
    }

    fn service(&self, tape: &mut Tape<'_>, id: u32, kind: usize) -> Service<A> {
        let protocol = if id % 2 == 1 { proto::TCP } else { proto::UDP };
        let (addr, port, kind) = [
            (A::LB, 443, frontend_kind::LOAD_BALANCER),
            (A::VIP, 80, frontend_kind::CLUSTER_IP),
            (A::NODE, 30_080, frontend_kind::NODE_PORT),
            (A::EXTERNAL, 8_000, frontend_kind::EXTERNAL_IP),
        ][kind];
        let mut service = Service::new(protocol, addr, port + (id as u16 - 1) / 2, kind);
        (service.id, service.slots) = (id, SLOTS * (id - 1));
        service.flags = tape.pick(&[0, 0, frontend_flag::EXTERNAL_LOCAL, frontend_flag::INTERNAL_LOCAL]);
        service.flags |= tape.pick(&[0, 0, 0, frontend_flag::SOURCE_RANGES]);
        if tape.one_in(3) {
            service.flags |= frontend_flag::INTERNAL_EMPTY_DROPS | frontend_flag::EXTERNAL_EMPTY_DROPS;
        }
        service.affinity_secs = tape.pick(&[0, 0, 10]);
        service.endpoints = self.endpoints(tape, id);
        service
    }

    fn endpoints(&self, tape: &mut Tape<'_>, id: u32) -> Vec<Endpoint<A>> {
        let most = if self.chance == Chance::Fixed { 1 } else { 3 };
        let count = if tape.one_in(6) { 0 } else { 1 + tape.below(most) };
        // Ids of a Service are its own: ids 1 to 3 of the first, and so on.
        let mut endpoints = Vec::new();
        for at in 0..count as u32 {
            let addr = tape.pick(&[A::LOCAL, A::REMOTE, A::LOCAL2, A::POD, A::NODE, A::NOWHERE, A::REMOTE, A::LOCAL]);
            let mut endpoint = Endpoint::remote(self.backend_id(id, at), addr);
            endpoint.flags |= match addr {
                _ if addr == A::NODE => backend_flag::LOCAL | backend_flag::IN_LOCAL | backend_flag::HOST_NETWORK,
                _ if addr == A::REMOTE || addr == A::NOWHERE => 0,
                _ => backend_flag::LOCAL | backend_flag::IN_LOCAL,
            };
            if endpoints.iter().all(|other: &Endpoint<A>| other.addr != addr) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    fn backend_id(&self, service: u32, at: u32) -> u32 {
        if self.chance == Chance::Fixed { service } else { 3 * (service - 1) + 1 + at }
    }

    /// Lets something happen on all nodes; a packet to send, if that is what happens.
    pub fn step(&mut self, tape: &mut Tape<'_>, nodes: &mut [&mut dyn Node<A>]) -> Option<Sent> {
        match tape.below(64) {
            0..=59 => return Some(self.send(tape)),
            // When half of a flow is missed is a matter of the clock, which is each node's own.
            60 if self.chance == Chance::Free => self.evict(tape, nodes),
            60 => {}
            61 => self.replace_endpoints(tape, nodes),
            62 => nodes.iter_mut().for_each(|node| node.pass_seconds(4)),
            _ => self.change_flags(tape, nodes),
        }
        None
    }

    fn send(&mut self, tape: &mut Tape<'_>) -> Sent {
        let Conversation { protocol, ends } = self.conversation(tape);
        let key = tuple(protocol, ends.0, ends.1);
        let numbers = (self.number(tape, &key), self.number(tape, &key.flipped()));
        let bytes = packet(tape, protocol, ends, numbers);
        let hook = tape.pick(&HOOKS);
        let ifindex = if hook.is_uplink() && tape.one_in(4) { UPLINK2 } else { hook.device() };
        Sent { hook, ifindex, bytes }
    }

    /// The next number of a sender, mostly; or one that is near, further ahead, or by chance.
    fn number(&self, tape: &mut Tape<'_>, sender: &FlowKey<A>) -> u32 {
        let next = self.numbers.get(sender).copied().unwrap_or(0x0102_0304);
        match tape.below(16) {
            0..=11 => next,
            12 => next.wrapping_sub(u32::from(tape.byte())),
            13 => next.wrapping_add(u32::from(tape.wide())),
            14 => next.wrapping_add(u32::from(tape.wide()) << 5),
            _ => u32::from(tape.wide()) << 16 | u32::from(tape.wide()),
        }
    }

    fn conversation(&mut self, tape: &mut Tape<'_>) -> Conversation<A> {
        if !self.talks.is_empty() && tape.below(8) != 0 {
            let mut talk = self.talks[tape.below(self.talks.len())];
            if tape.one_in(3) {
                talk.ends = (talk.ends.1, talk.ends.0);
            }
            return talk;
        }
        let client = tape.pick(&[A::POD, A::CLIENT, A::LOCAL, A::REMOTE, A::CLIENT2, A::STRANGER, A::NODE, A::LOCAL2]);
        let client = (client, tape.pick(&PORTS));
        let service = &self.services[tape.below(self.services.len())];
        let (front, port, _) = service.frontends[0];
        let server = match tape.below(16) {
            0..=9 => (front, port),
            10 => (front, port + 1),
            11 => (A::VIP, 81),
            12 => (A::UNALLOCATED, 80),
            13 => (A::NODE, 61_000 + tape.below(4) as u16),
            _ => (tape.pick(&[A::LOCAL, A::REMOTE, A::POD, A::NOWHERE]), 8_080),
        };
        let protocol = if tape.one_in(8) { proto::TCP + proto::UDP - service.proto } else { service.proto };
        let talk = Conversation { protocol, ends: (client, server) };
        self.remember(talk);
        talk
    }

    fn remember(&mut self, talk: Conversation<A>) {
        if !self.talks.contains(&talk) {
            self.talks.truncate(MEMORY - 1);
            self.talks.push_front(talk);
        }
    }

    /// Learns from what came out of a packet: later ones answer it, or go on with it.
    pub fn saw(&mut self, sent: &Sent, out: &Outcome) {
        let goes_on = matches!(out.action, Action::Pass | Action::Route);
        for frame in [&sent.bytes, &out.bytes] {
            if let Some((sender, end)) = goes_on.then(|| segment::newest::<A>(frame)).flatten() {
                self.numbers.insert(sender, end);
            }
        }
        let talk = goes_on && out.bytes != sent.bytes;
        if let Some(talk) = talk.then(|| read(&out.bytes)).flatten() {
            self.remember(talk);
        }
    }

    /// Forgets a flow, as a full table does, or half of it.
    fn evict(&mut self, tape: &mut Tape<'_>, nodes: &mut [&mut dyn Node<A>]) {
        if self.talks.is_empty() {
            return;
        }
        let Conversation { protocol, ends } = self.talks[tape.below(self.talks.len())];
        let (src, dst) = if tape.one_in(2) { ends } else { (ends.1, ends.0) };
        let key = tuple(protocol, src, dst);
        for node in nodes {
            node.forget(&key);
        }
    }

    /// Other endpoints, whose ids have new generations, or none.
    fn replace_endpoints(&mut self, tape: &mut Tape<'_>, nodes: &mut [&mut dyn Node<A>]) {
        let at = tape.below(self.services.len());
        let fresh = self.endpoints(tape, self.services[at].id);
        let service = &mut self.services[at];
        let newest = service.endpoints.iter().map(|endpoint| endpoint.generation).max().unwrap_or(1);
        let mut gone = std::mem::take(&mut service.endpoints);
        service.endpoints = fresh;
        for endpoint in &mut service.endpoints {
            endpoint.generation = newest + 1;
        }
        gone.retain(|old| service.endpoints.iter().all(|new| new.id != old.id));
        // The ids of those that went are free; the set does not have them.
        for endpoint in &mut gone {
            endpoint.generation = 0;
        }
        let mut all = service.clone();
        all.endpoints.extend(gone);
        for node in nodes {
            all.write(*node);
        }
    }

    fn change_flags(&mut self, tape: &mut Tape<'_>, nodes: &mut [&mut dyn Node<A>]) {
        let at = tape.below(self.services.len());
        let service = &mut self.services[at];
        service.flags ^= tape.pick(&[frontend_flag::EXTERNAL_LOCAL, frontend_flag::INTERNAL_LOCAL]);
        service.affinity_secs = tape.pick(&[0, 10]);
        for node in nodes {
            service.write(*node);
        }
    }
}

fn tuple<A: Family>(proto: u8, src: (A, u16), dst: (A, u16)) -> FlowKey<A> {
    FlowKey { src: src.0, dst: dst.0, sport: Be16::new(src.1), dport: Be16::new(dst.1), proto, pad: [0; 3] }
}

/// Who talks to whom in a plain packet.
fn read<A: Family>(frame: &[u8]) -> Option<Conversation<A>> {
    let l4 = 14 + A::HEADER;
    let protocol = *frame.get(if A::IS_V6 { 20 } else { 23 })?;
    if ![proto::TCP, proto::UDP].contains(&protocol) {
        return None;
    }
    let two = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let words = A::WORDS * 4;
    let addr = |at: usize| A::read(frame.get(at..at + words)?);
    let (src, dst) = (addr(l4 - 2 * words)?, addr(l4 - words)?);
    Some(Conversation { protocol, ends: ((src, two(l4)?), (dst, two(l4 + 2)?)) })
}
