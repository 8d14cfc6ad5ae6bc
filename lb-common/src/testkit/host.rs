//! The adapter of the host: a packet's way through a hook, in plain memory.

use super::bytes::Bytes;
use super::family::Family;
use super::memory::{FlowRef, Memory};
use super::node::{Action, Hook, Node, Outcome, gathered};
use crate::abi::{
    BackendValue, Counter, FamilyConfig, FlowValue, FrontendKey, FrontendValue, StatsValue, flow_action, flow_kind,
    proto,
};
use crate::datapath::{
    Env, Fast, Fragment, Headers, Parsed, Scratch, Trouble, Verdict, account, complain, complaint_length,
    complaint_room, egress, egress_slow, fragment, icmp_egress, icmp_ingress, ingress, ingress_slow, parse, refused,
    rewrite, rst, rst_length, swap_macs,
};

const L3: usize = 14;
/// Largest packet that a device takes, as a fresh one has it.
pub const MTU: u16 = 1500;

/// A node in plain memory.
#[derive(Debug, Default)]
pub struct HostNode<A: Family> {
    /// Its tables.
    pub memory: Memory<A>,
}

/// A packet in a hook.
struct Visit<'a, A> {
    memory: &'a Memory<A>,
    hook: Hook,
    ifindex: u32,
    pkt: Bytes,
}

impl<A: Family> Visit<'_, A> {
    fn run(self) -> Outcome {
        let ethertype = self.pkt.0.get(12..14).map(|two| u16::from_ne_bytes([two[0], two[1]]));
        let mut headers = Headers::<A>::empty();
        if ethertype != Some(A::ETHERTYPE) {
            return self.end(Action::Pass);
        }
        match parse(&self.pkt, L3, &mut headers) {
            Parsed::Flow => {}
            Parsed::Icmp => return self.icmp(&headers),
            Parsed::Other => return self.end(Action::Pass),
        }
        if headers.fragment != Fragment::None && !fragment(self.memory, &mut headers) {
            return self.end(Action::Pass);
        }
        let ingress_hook = self.hook.is_ingress();
        let fast = if ingress_hook { ingress(self.memory, &headers) } else { egress(self.memory, &headers) };
        let missed = match fast {
            Fast::Hit(flow) => {
                let flow = self.memory.again(flow);
                return self.forward(&headers, &flow, Some(flow));
            }
            Fast::Pass => return self.end(Action::Pass),
            Fast::Miss => 1,
            Fast::Slow => 0,
        };
        let mut scratch = Scratch::<A>::default();
        scratch.missed = missed;
        scratch.ifindex = self.ifindex;
        scratch.uplink = u32::from(self.hook.is_uplink());
        scratch.local = u32::from(self.memory.local.contains(&self.ifindex));
        // As a test run has it: no packet comes from another device.
        scratch.own = u32::from(!ingress_hook);
        let slow = if ingress_hook { ingress_slow } else { egress_slow };
        match slow(self.memory, &headers, &mut scratch) {
            Verdict::Pass => self.end(Action::Pass),
            Verdict::Forward => self.forward(&headers, &scratch.forward, None),
            Verdict::Reject if headers.fragment != Fragment::Later => self.reject(&headers),
            Verdict::Reject | Verdict::Drop => self.end(Action::Drop),
        }
    }

    fn end(self, action: Action) -> Outcome {
        Outcome { action, bytes: if action == Action::Drop { Vec::new() } else { self.pkt.0 } }
    }

    fn dropped(self, counter: Counter) -> Outcome {
        self.memory.count(counter);
        self.end(Action::Drop)
    }

    fn forward(mut self, headers: &Headers<A>, value: &FlowValue<A>, entry: Option<FlowRef<A>>) -> Outcome {
        let leaves = self.hook.is_ingress() && value.action != flow_action::STACK;
        if leaves && headers.ttl <= 1 {
            return self.troubled(headers, Counter::DropTtl, Trouble::EXPIRED);
        }
        let uplink = value.kind == flow_kind::REVERSE_SNAT && value.ifindex != 0;
        if leaves && !uplink && !self.reachable(value.action, value.dst) {
            return self.dropped(Counter::DropNoRoute);
        }
        if leaves && !uplink && value.action == flow_action::ROUTE && self.pkt.0.len() - L3 > usize::from(MTU) {
            return self.troubled(headers, Counter::DropTooBig, Trouble::too_big(MTU));
        }
        if rewrite(&mut self.pkt, L3, headers, value, u8::from(leaves)).is_none() {
            return self.dropped(Counter::DropRewrite);
        }
        let bytes = u32::try_from(self.pkt.0.len() - L3).unwrap_or(u32::MAX);
        match entry {
            Some(entry) => account(self.memory, entry, 1, bytes),
            None if value.backend != 0 => self.memory.account(value, value.kind != flow_kind::FORWARD, 1, bytes),
            None => {}
        }
        if leaves {
            return self.depart(value.action);
        }
        // A reply leaves by the uplink on which its request came.
        let elsewhere = self.hook == Hook::UplinkEgress && value.ifindex != self.ifindex;
        self.end(if elsewhere { Action::Route } else { Action::Pass })
    }

    fn reachable(&self, action: u8, dst: A) -> bool {
        action == flow_action::HAIRPIN || self.memory.route(dst).is_some()
    }

    fn depart(mut self, action: u8) -> Outcome {
        if action != flow_action::HAIRPIN {
            return self.end(Action::Route);
        }
        match swap_macs(&mut self.pkt) {
            Some(()) => self.end(Action::Back),
            None => self.dropped(Counter::DropRewrite),
        }
    }

    fn icmp(mut self, headers: &Headers<A>) -> Outcome {
        let change = if self.hook.is_ingress() {
            icmp_ingress(self.memory, &self.pkt, headers)
        } else {
            icmp_egress(self.memory, &self.pkt, headers)
        };
        let Some(change) = change else { return self.end(Action::Pass) };
        let leaves = self.hook.is_ingress() && change.action != flow_action::STACK;
        if leaves && !self.reachable(change.action, change.dst) {
            return self.dropped(Counter::DropNoRoute);
        }
        if leaves && headers.ttl <= 1 {
            return self.dropped(Counter::DropTtl);
        }
        if change.write(&mut self.pkt, L3, u8::from(leaves)).is_none() {
            return self.dropped(Counter::DropRewrite);
        }
        self.memory.count(Counter::IcmpTranslated);
        if leaves { self.depart(change.action) } else { self.end(Action::Pass) }
    }

    fn reject(mut self, headers: &Headers<A>) -> Outcome {
        let answered = self.answer(headers).is_some();
        self.end(if answered { Action::Back } else { Action::Drop })
    }

    fn answer(&mut self, headers: &Headers<A>) -> Option<()> {
        if headers.key.proto == proto::TCP {
            let about = refused(&self.pkt, L3, headers)?;
            self.pkt.0.truncate(rst_length(headers));
            return rst(&mut self.pkt, L3, headers, about);
        }
        self.complain(headers, Trouble::NO_PORT)
    }

    fn complain(&mut self, headers: &Headers<A>, why: Trouble) -> Option<()> {
        let room = complaint_room(L3, headers)?;
        self.pkt.0.truncate(complaint_length(headers));
        self.pkt.0.splice(L3..L3, core::iter::repeat_n(0, room));
        complain(&mut self.pkt, L3, headers, why)
    }

    /// Counts the reason and answers, where that can be done.
    fn troubled(mut self, headers: &Headers<A>, counter: Counter, why: Trouble) -> Outcome {
        self.memory.count(counter);
        let answered = self.complain(headers, why).is_some();
        self.end(if answered { Action::Back } else { Action::Drop })
    }
}

impl<A: Family> Node<A> for HostNode<A> {
    fn reset(&mut self) {
        self.memory = Memory::default();
    }

    fn set_config(&mut self, config: FamilyConfig<A>) {
        self.memory.config = config;
    }

    fn set_local(&mut self, devices: &[u32]) {
        self.memory.local = devices.to_vec();
    }

    fn set_frontend(&mut self, key: FrontendKey<A>, value: Option<FrontendValue>) {
        match value {
            Some(value) => self.memory.frontends.insert(key, value),
            None => self.memory.frontends.remove(&key),
        };
    }

    fn set_slot(&mut self, index: u32, backend: u32) {
        self.memory.slots.insert(index, backend);
    }

    fn set_backend(&mut self, id: u32, value: BackendValue<A>) {
        let before = self.memory.backends.insert(id, value);
        if before.is_none_or(|before| before.generation != value.generation) {
            self.memory.stats.borrow_mut().remove(&id);
        }
    }

    fn allow_range(&mut self, service: u32, net: A, prefix: u32) {
        self.memory.ranges.push((service, net, prefix));
    }

    fn pass_seconds(&mut self, seconds: u64) {
        self.memory.now_ns.set(self.memory.now_ns.get() + seconds * 1_000_000_000);
    }

    fn send(&mut self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome {
        Visit { memory: &self.memory, hook, ifindex, pkt: Bytes(packet.to_vec()) }.run()
    }

    fn counter(&mut self, counter: Counter) -> u64 {
        self.memory.counters.borrow().get(&counter.index()).copied().unwrap_or(0)
    }

    fn stats(&mut self, backend: u32) -> StatsValue {
        self.memory.stats.borrow().get(&backend).copied().unwrap_or_default()
    }

    fn gathered(&mut self, backend: u32) -> StatsValue {
        gathered(self.memory.flows.borrow().values().copied(), backend)
    }

    fn flows(&mut self) -> (usize, usize) {
        (self.memory.flows.borrow().len(), self.memory.embryos.borrow().len())
    }
}
