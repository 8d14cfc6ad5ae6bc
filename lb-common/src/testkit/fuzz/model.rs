//! The life of flows, looked at from outside: what docs/flows.md says of a flow has to hold after each packet, whatever the
//! packets, their devices and their order. Tables are compared before and after; a packet's fields come from another parser.

use std::collections::{HashMap, HashSet};

use super::super::family::Family;
use super::super::memory::Memory;
use super::super::node::Hook;
use super::pair::{AHEAD, Change, FRESH, NEAR, is_request, is_same, other_key};
use super::segment::{Arrived, Sender, Tcp};
use crate::abi::{FlowKey, FlowValue, flow_action, flow_kind, flow_state, proto};

type Table<A> = HashMap<FlowKey<A>, FlowValue<A>>;

/// The tables as they were, and which entries have lost their other one by eviction: such a flow may do anything, but not to
/// another.
#[derive(Debug)]
pub(super) struct Model<A> {
    flows: Table<A>,
    half_open: Table<A>,
    alone: HashSet<(bool, FlowKey<A>)>,
}

impl<A> Default for Model<A> {
    fn default() -> Self {
        Self { flows: HashMap::new(), half_open: HashMap::new(), alone: HashSet::new() }
    }
}

impl<A: Family> Model<A> {
    /// Takes note of what happened to the tables between two packets: evictions.
    pub(super) fn evicted(&mut self, memory: &Memory<A>) {
        for half_open in [false, true] {
            let now = if half_open { memory.half_open.borrow() } else { memory.flows.borrow() };
            let then = if half_open { &self.half_open } else { &self.flows };
            let gone = then.iter().filter(|(key, _)| !now.contains_key(key));
            let others: Vec<_> = gone.map(|(key, value)| other_key(key, value)).collect();
            self.alone.extend(others.into_iter().flat_map(|key| [(true, key), (false, key)]));
        }
        self.remember(memory);
    }

    fn remember(&mut self, memory: &Memory<A>) {
        self.flows.clone_from(&memory.flows.borrow());
        self.half_open.clone_from(&memory.half_open.borrow());
        let (flows, half_open) = (&self.flows, &self.half_open);
        self.alone.retain(
            |(established, key)| if *established { flows.contains_key(key) } else { half_open.contains_key(key) },
        );
    }

    /// What is wrong with what a packet did, if anything.
    pub(super) fn fault(
        &mut self,
        memory: &Memory<A>,
        hook: Hook,
        ifindex: u32,
        sent: &[u8],
        out: &[u8],
    ) -> Option<String> {
        let packet = Arrived::<A>::new(memory, hook, ifindex, sent);
        let found = self.judge(memory, &packet, out);
        self.remember(memory);
        found.err().map(|why| format!("{why}\n{packet:x?}"))
    }

    fn judge(&mut self, memory: &Memory<A>, packet: &Arrived<A>, out: &[u8]) -> Result<(), String> {
        let (flows, half_open) = (memory.flows.borrow(), memory.half_open.borrow());
        for (then, now, established) in [(&self.flows, &*flows, true), (&self.half_open, &*half_open, false)] {
            let keys: HashSet<_> = then.keys().chain(now.keys()).collect();
            for key in keys {
                let (old, new) = (then.get(key), now.get(key));
                if old == new {
                    continue;
                }
                let change = Change { key, old, new, established };
                let healthy = !self.alone.contains(&(established, *key));
                self.changed(memory, packet, &change, healthy).map_err(|why| {
                    format!("{why}: {} {key:x?}\nwas {old:x?}\nis {new:x?}", if established { "FLOWS" } else { "HALF" })
                })?;
            }
        }
        // An entry that is another flow's now is whole again.
        let (before, before_half) = (&self.flows, &self.half_open);
        self.alone.retain(|(established, key)| {
            let (then, now) = if *established { (before, &*flows) } else { (before_half, &*half_open) };
            matches!((then.get(key), now.get(key)), (Some(old), Some(new)) if is_same(*established, old, new))
        });
        self.pairs(&flows, &half_open)?;
        self.translation(packet, &flows, &half_open, out)
    }

    /// Every entry has its other one, which has it.
    fn pairs(&self, flows: &Table<A>, half_open: &Table<A>) -> Result<(), String> {
        for (table, aside, established) in [(flows, half_open, true), (half_open, flows, false)] {
            for (key, value) in table.iter().filter(|(key, _)| !self.alone.contains(&(established, **key))) {
                if value.kind == flow_kind::OWN {
                    continue;
                }
                let other = other_key(key, value);
                let fits = |found: &&FlowValue<A>| {
                    is_request(found.kind) != is_request(value.kind) && other_key(&other, found) == *key
                };
                if table.get(&other).filter(fits).or_else(|| aside.get(&other).filter(fits)).is_none() {
                    return Err(format!("an entry has lost its other one: {key:x?} {value:x?}"));
                }
            }
        }
        Ok(())
    }

    fn changed(
        &self,
        memory: &Memory<A>,
        packet: &Arrived<A>,
        change: &Change<'_, A>,
        healthy: bool,
    ) -> Result<(), String> {
        match (change.old, change.new) {
            (Some(old), Some(new)) if is_same(change.established, old, new) => self.noted(packet, change, old, new),
            (old, new) => {
                if let Some(old) = old.filter(|_| healthy) {
                    self.removed(memory, packet, change, old)?;
                }
                new.map_or(Ok(()), |new| self.added(packet, change, new))
            }
        }
    }

    /// Who a packet is to an entry: the sender of its direction, the other side, or nobody.
    fn sender(packet: &Arrived<A>, key: &FlowKey<A>, value: &FlowValue<A>) -> Sender {
        let other = other_key(key, value);
        let (is_it, is_other) = match value.kind {
            flow_kind::REVERSE => (packet.leaves(key), packet.comes(&other)),
            flow_kind::OWN => {
                return if packet.comes(key) || packet.leaves(key) { Sender::Own } else { Sender::Nobody };
            }
            flow_kind::REVERSE_SNAT => (packet.comes(key), packet.comes(&other)),
            _ if flow_action::keeps_source(value.action) => (packet.comes(key), packet.leaves(&other)),
            _ => (packet.comes(key), packet.comes(&other)),
        };
        match (is_it, is_other) {
            (true, _) => Sender::Own,
            (_, true) => Sender::Other,
            _ => Sender::Nobody,
        }
    }

    /// An entry's marks changed.
    fn noted(
        &self,
        packet: &Arrived<A>,
        change: &Change<'_, A>,
        old: &FlowValue<A>,
        new: &FlowValue<A>,
    ) -> Result<(), String> {
        let sender = Self::sender(packet, change.key, old);
        if sender == Sender::Nobody {
            return Err("a packet has changed another's flow".into());
        }
        if packet.foreign {
            return Err("a packet under an address that is not its sender's has changed a flow".into());
        }
        let Some(tcp) = packet.tcp.as_ref() else {
            let gained = new.state & !old.state & !flow_state::REPLIED;
            return if gained != 0 || (old.next != new.next) {
                Err("what has no numbers has changed them, or ended a flow".into())
            } else if packet.may_be_either(change.key, &other_key(change.key, old)) {
                Self::places(packet, Sender::Own, old, new).or_else(|_| Self::places(packet, Sender::Other, old, new))
            } else {
                Self::places(packet, sender, old, new)
            };
        };
        let gained = new.state & !old.state;
        // A connection of the node's own is one entry for both directions, and its numbers are those of either.
        if old.kind != flow_kind::OWN {
            let own = sender == Sender::Own;
            let refused = !change.established && sender == Sender::Other && tcp.rst();
            if gained & flow_state::RST != 0
                && !(refused
                    || (own && tcp.rst() && [0, tcp.seq].contains(&old.next))
                    || (!change.established && own && tcp.rst() && tcp.is_near(old.next)))
            {
                return Err("a RST that cannot be true counts".into());
            }
            if gained & flow_state::FIN != 0 && !(own && tcp.fin() && tcp.is_near(old.next)) {
                return Err("a FIN that cannot be true counts".into());
            }
            if old.state & !new.state != 0 && !(tcp.syn() && tcp.ack_flag()) {
                return Err("what was closed is open again".into());
            }
            if new.next != old.next && !self.may_renumber(packet, change, old, new, own) {
                return Err("a number moved that cannot be true".into());
            }
        }
        if gained & flow_state::REPLIED != 0 && old.kind != flow_kind::OWN {
            let forward = if is_request(old.kind) {
                Some(old)
            } else {
                let other = other_key(change.key, old);
                let is_its = |it: &&FlowValue<A>| is_request(it.kind) && other_key(&other, it) == *change.key;
                self.half_open.get(&other).filter(is_its)
            };
            let reply = if is_request(old.kind) { Sender::Other } else { Sender::Own };
            let acknowledges = |forward: &FlowValue<A>| {
                !tcp.ack_flag()
                    || forward.next == 0
                    || tcp.ack.wrapping_sub(forward.next).wrapping_add(NEAR) <= 2 * NEAR
            };
            if sender != reply || !forward.is_none_or(acknowledges) {
                return Err("a flow counts as answered, but was not".into());
            }
        }
        Self::places(packet, sender, old, new)
    }

    fn may_renumber(
        &self,
        packet: &Arrived<A>,
        change: &Change<'_, A>,
        old: &FlowValue<A>,
        new: &FlowValue<A>,
        own: bool,
    ) -> bool {
        let Some(tcp) = packet.tcp.as_ref() else { return false };
        // A SYN's number counts where nothing is established, else once the backend has taken it.
        let opens = tcp.syn() && !tcp.ack_flag() && is_request(old.kind) && own && !change.established;
        let answers = tcp.syn() && tcp.ack_flag() && is_request(old.kind) != own;
        let taken = match (own, change.established) {
            (true, false) => opens || answers,
            (true, true) => answers && tcp.ack != 0 && old.born == tcp.ack,
            (false, false) => answers,
            (false, true) => answers && self.is_opening(change.key, old, tcp.ack),
        };
        if taken && new.next == (if own { tcp.end } else { tcp.ack }) {
            return true;
        }
        if opens {
            return false;
        }
        let believed = if tcp.rst() { [0, tcp.seq].contains(&old.next) } else { !tcp.fin() || tcp.is_near(old.next) };
        own && believed && new.next == tcp.end && (old.next == 0 || tcp.end.wrapping_sub(old.next) <= AHEAD)
    }

    /// Whether the client has sent a SYN on this forward entry's flow, with this number.
    fn is_opening(&self, key: &FlowKey<A>, forward: &FlowValue<A>, number: u32) -> bool {
        self.flows.get(&other_key(key, forward)).is_some_and(|reverse| reverse.born == number && number != 0)
    }

    /// The devices that a flow remembers are those of its packets.
    fn places(packet: &Arrived<A>, sender: Sender, old: &FlowValue<A>, new: &FlowValue<A>) -> Result<(), String> {
        let client = if is_request(old.kind) { Sender::Own } else { Sender::Other };
        if new.ifindex != old.ifindex && (sender != client || ![0, packet.ifindex].contains(&new.ifindex)) {
            return Err("a flow follows a device by which its client did not come".into());
        }
        if new.from != old.from && (sender != Sender::Own || new.from != packet.from) {
            return Err("a flow's packets come by a device by which they did not come".into());
        }
        Ok(())
    }

    /// Whether a flow is over, by the states of both of its entries as they were.
    fn is_over(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        let other = self.flows.get(&other_key(key, value)).map_or(0, |other| other.state);
        (value.state | other) & flow_state::RST != 0 || value.state & other & flow_state::FIN != 0
    }

    fn removed(
        &self,
        memory: &Memory<A>,
        packet: &Arrived<A>,
        change: &Change<'_, A>,
        old: &FlowValue<A>,
    ) -> Result<(), String> {
        let key = change.key;
        if old.kind == flow_kind::OWN && packet.comes(key) {
            // A client takes the place of what the node has asked, without an answer.
            return Ok(());
        }
        let (forward, other) = if is_request(old.kind) {
            (*key, self.half_open.get(&other_key(key, old)))
        } else {
            (other_key(key, old), self.half_open.get(&other_key(key, old)))
        };
        let generation = memory.backends.get(&old.backend).map_or(0, |backend| backend.generation);
        let begins = packet.comes(&forward) && packet.tcp.as_ref().is_none_or(|tcp| tcp.syn() && !tcp.ack_flag());
        let moves = begins && generation != old.generation;
        if change.established {
            return if moves || self.is_over(key, old) {
                Ok(())
            } else {
                Err("an established flow was pushed out".into())
            };
        }
        let reset = (old.state | other.map_or(0, |other| other.state)) & (flow_state::RST | flow_state::FIN) != 0;
        let established = memory.flows.borrow().contains_key(key);
        let reverse = if is_request(old.kind) { other } else { Some(old) };
        let idle =
            reverse.is_some_and(|reverse| crate::datapath::Host::ticks(memory).wrapping_sub(reverse.seen) > FRESH);
        let known = packet.key.is_some() || packet.later.is_some();
        let opens = known && packet.tcp.as_ref().is_none_or(Tcp::syn);
        if established || moves || (begins && reset) || (opens && (idle || reset)) {
            Ok(())
        } else {
            Err("a half-open flow was pushed out".into())
        }
    }

    fn added(&self, packet: &Arrived<A>, change: &Change<'_, A>, new: &FlowValue<A>) -> Result<(), String> {
        let (key, other) = (change.key, other_key(change.key, new));
        if packet.foreign {
            return Err("a packet under an address that is not its sender's has made a flow".into());
        }
        if new.kind == flow_kind::OWN {
            return if !change.established && packet.leaves(key) { Ok(()) } else { Err("not the node's own".into()) };
        }
        let (request, reply) = if is_request(new.kind) { (key, &other) } else { (&other, key) };
        let opens = packet.tcp.as_ref().is_none_or(|tcp| tcp.syn() && !tcp.ack_flag());
        if !change.established {
            let made = packet.comes(request) && (opens || self.half_open.contains_key(request));
            return if made { Ok(()) } else { Err("a flow was made by what begins none".into()) };
        }
        let (forward, reverse) = (self.half_open.get(request), self.half_open.get(reply));
        let (Some(forward), Some(reverse)) = (forward, reverse) else {
            // Its reverse entry was evicted, and made again by this datagram.
            let mended = packet.tcp.is_none()
                && self.half_open.get(request).is_some_and(|it| it.state & flow_state::REPLIED != 0);
            return if mended && packet.comes(request) { Ok(()) } else { Err("established at once".into()) };
        };
        if packet.comes(reply) && forward.kind == flow_kind::FORWARD && opens {
            // Moved out of the way of a direct connection with its tuple: without a device it is kept no longer than before.
            let waits = new.kind != flow_kind::FORWARD || new.ifindex == 0;
            if waits {
                return Ok(());
            }
            if !packet.may_be_either(request, reply) {
                return Err("established without an answer".into());
            }
        }
        if !packet.comes(request) || forward.state & reverse.state & flow_state::REPLIED == 0 {
            return Err("established, but nobody has answered".into());
        }
        match &packet.tcp {
            Some(tcp) if tcp.rst() || !tcp.ack_flag() || tcp.ack.wrapping_sub(reverse.next) >= NEAR => {
                Err("established, but the client has not seen the answer".into())
            }
            _ => Ok(()),
        }
    }

    /// What was written is what the flow's entry says, and a live flow's packet is not passed on as it came.
    fn translation(
        &self,
        packet: &Arrived<A>,
        flows: &Table<A>,
        half_open: &Table<A>,
        out: &[u8],
    ) -> Result<(), String> {
        let (Some(key), Some(written)) = (packet.key, super::segment::tuple::<A>(out)) else { return Ok(()) };
        let at = if packet.hook.is_ingress() { key } else { key.flipped() };
        let entry = |table: &Table<A>| table.get(&at).copied();
        let fits = |value: &FlowValue<A>| match value.kind {
            flow_kind::REVERSE => !packet.hook.is_ingress(),
            flow_kind::OWN => false,
            _ => packet.hook.is_ingress(),
        };
        let says = |value: FlowValue<A>| FlowKey {
            src: value.src,
            dst: value.dst,
            sport: value.sport,
            dport: value.dport,
            ..key
        };
        if written == key.flipped() || written.proto != key.proto {
            // Refused.
            return Ok(());
        }
        if written != key {
            let entries = [entry(flows), entry(half_open), entry(&self.flows), entry(&self.half_open)];
            let known = entries.into_iter().flatten().filter(fits).any(|value| says(value) == written);
            if !known || packet.foreign {
                return Err(format!("translated to {written:x?}, which no flow says"));
            }
        } else if let Some(value) = entry(&self.flows).filter(fits)
            && packet.readable
            && value.kind != flow_kind::DIRECT
            && !self.alone.contains(&(true, at))
            && !self.is_over(&at, &value)
            && says(value) != key
            && !(key.proto == proto::TCP && packet.tcp.as_ref().is_some_and(Tcp::syn))
        {
            return Err("a packet of an established flow goes on as it came".into());
        }
        Ok(())
    }
}
