//! A packet as the model of flows sees it: read by a parser that is not ours.

use super::super::family::Family;
use super::super::memory::Memory;
use super::super::node::{Hook, POD};
use super::layout::layout;
use crate::abi::{Be16, FlowKey, proto};
use crate::wire::tcp::flag as tcp_flag;

/// Whose packet one is to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Of the entry's direction.
    Own,
    /// Of the flow's other direction.
    Other,
    /// Not of the flow.
    Nobody,
}

/// What TCP says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp {
    flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// Behind the last byte, SYN and FIN counted.
    pub(super) end: u32,
}

impl Tcp {
    pub(super) const fn syn(&self) -> bool {
        self.flags & tcp_flag::SYN != 0
    }

    pub(super) const fn rst(&self) -> bool {
        self.flags & tcp_flag::RST != 0
    }

    pub(super) const fn fin(&self) -> bool {
        self.flags & tcp_flag::FIN != 0
    }

    pub(super) const fn ack_flag(&self) -> bool {
        self.flags & tcp_flag::ACK != 0
    }

    /// Whether it begins within 64 KiB of a number, or that is not known.
    pub(super) const fn is_near(&self, next: u32) -> bool {
        next == 0 || self.seq.wrapping_sub(next).wrapping_add(1 << 16) <= 1 << 17
    }
}

/// A packet at a hook.
#[derive(Debug)]
pub(super) struct Arrived<A> {
    pub(super) hook: Hook,
    pub(super) ifindex: u32,
    /// The device by which it entered the node; 0: a process's.
    pub(super) from: u32,
    /// Addresses, protocol and ports, if they are in it.
    pub(super) key: Option<FlowKey<A>>,
    /// Addresses of a fragment whose ports are in another.
    pub(super) later: Option<(A, A)>,
    pub(super) tcp: Option<Tcp>,
    /// It comes from a Pod's device under an address that is not behind that.
    pub(super) foreign: bool,
    /// It has no more extension headers than are read.
    pub(super) readable: bool,
}

/// Addresses as they lie in a frame.
fn addresses<A: Family>(frame: &[u8]) -> Option<(A, A)> {
    if u16::from_ne_bytes([*frame.get(12)?, *frame.get(13)?]) != A::ETHERTYPE {
        return None;
    }
    let (length, at) = (4 * A::WORDS, 14 + A::HEADER - 8 * A::WORDS);
    Some((A::read(frame.get(at..at + length)?)?, A::read(frame.get(at + length..at + 2 * length)?)?))
}

/// Addresses, protocol and ports of a frame.
pub(super) fn tuple<A: Family>(frame: &[u8]) -> Option<FlowKey<A>> {
    let (src, dst) = addresses::<A>(frame)?;
    let (protocol, l4) = layout(frame)?.transport?;
    let header = match protocol {
        proto::TCP => 20,
        proto::UDP => 8,
        _ => return None,
    };
    frame.get(l4..l4 + header)?;
    let port = |at: usize| Some(Be16::new(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?])));
    Some(FlowKey { src, dst, sport: port(l4)?, dport: port(l4 + 2)?, proto: protocol, pad: [0; 3] })
}

fn tcp<A: Family>(frame: &[u8]) -> Option<Tcp> {
    let (protocol, l4) = layout(frame)?.transport?;
    if protocol != proto::TCP {
        return None;
    }
    let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let word = |at: usize| Some(u32::from(half(at)?) << 16 | u32::from(half(at + 2)?));
    let (seq, ack, flags) = (word(l4 + 4)?, word(l4 + 8)?, *frame.get(l4 + 13)?);
    let length = if A::IS_V6 { 54 + u32::from(half(18)?) } else { 14 + u32::from(half(16)?) };
    let header = u32::try_from(l4).ok()? + u32::from(*frame.get(l4 + 12)? >> 4) * 4;
    let mut tcp = Tcp { flags, seq, ack, end: 0 };
    let bytes = length.saturating_sub(header) + u32::from(tcp.syn()) + u32::from(tcp.fin());
    tcp.end = seq.wrapping_add(bytes);
    Some(tcp)
}

/// TCP: who sent a frame, and the number behind its last byte.
pub(super) fn newest<A: Family>(frame: &[u8]) -> Option<(FlowKey<A>, u32)> {
    Some((tuple(frame)?, tcp::<A>(frame)?.end))
}

impl<A: Family> Arrived<A> {
    pub(super) fn new(memory: &Memory<A>, hook: Hook, ifindex: u32, frame: &[u8]) -> Self {
        let key = tuple::<A>(frame);
        let ends = addresses::<A>(frame);
        let behind = |address: A| A::ROUTES.iter().find(|(net, _)| address.and(net.mask) == net.net).map(|(_, by)| *by);
        let foreign = hook.is_ingress()
            && ifindex == POD
            && ends.is_some_and(|(src, _)| src == memory.config.node || behind(src).is_some_and(|by| by != POD));
        Self {
            hook,
            ifindex,
            from: if hook.is_ingress() { ifindex } else { 0 },
            later: if key.is_none() { ends } else { None },
            tcp: key.and_then(|_| tcp::<A>(frame)),
            readable: !A::IS_V6
                || layout(frame).and_then(|layout| layout.transport).is_none_or(|(_, l4)| l4 <= 14 + 40 + 32),
            key,
            foreign,
        }
    }

    /// Whether the packet comes in with this tuple, as far as it says.
    pub(super) fn comes(&self, key: &FlowKey<A>) -> bool {
        self.hook.is_ingress() && self.is_of(key)
    }

    /// Whether the packet leaves with this tuple turned around.
    pub(super) fn leaves(&self, key: &FlowKey<A>) -> bool {
        !self.hook.is_ingress() && self.is_of(&key.flipped())
    }

    /// Whether the packet comes in with one of these tuples and does not say with which: a later fragment of a client that is
    /// its own backend.
    pub(super) fn may_be_either(&self, one: &FlowKey<A>, other: &FlowKey<A>) -> bool {
        self.key.is_none() && self.comes(one) && self.comes(other)
    }

    fn is_of(&self, key: &FlowKey<A>) -> bool {
        self.key.map_or(self.later == Some((key.src, key.dst)), |own| own == *key)
    }
}
