//! The data path's surroundings for a packet that nobody has sent: maps are read, what would be written to them stays in
//! memory, and each question is noted with its answer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::ops::Deref;

use lb_common::abi::filter::{self, Block};
use lb_common::abi::{
    Be16, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendValue, HeldKey, HeldValue, SenderKey, Tally, Waiting,
    flow_state, lately,
};
use lb_common::datapath::{Direction, Env, Flows, Fragments, Headers, Scratch, Stage};
use lb_common::wire::IpVersion;
use serde::Serialize;

use super::question::Names;
use super::surroundings::Surroundings;
use crate::maps::lookups::Lookups;
use crate::maps::{MapAddress, dump};

/// An address type that is traced.
pub trait Traced: MapAddress + IpVersion + Hash + 'static {}
impl<A: MapAddress + IpVersion + Hash + 'static> Traced for A {}

/// A question of the data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was asked.
    pub asked: String,
    /// The answer.
    pub found: String,
}

/// An entry of a flow table as it was found, or as it would be then.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowRef<A> {
    key: FlowKey<A>,
    half_open: bool,
    decided: bool,
    value: FlowValue<A>,
}

impl<A> Deref for FlowRef<A> {
    type Target = FlowValue<A>;

    fn deref(&self) -> &FlowValue<A> {
        &self.value
    }
}

/// Entries that would be written, or removed, by table and key.
type Written<A> = HashMap<(bool, FlowKey<A>), Option<FlowValue<A>>>;

/// The surroundings.
pub(super) struct Overlay<'a, A> {
    pub(super) maps: &'a Lookups<A>,
    pub(super) node: &'a dyn Surroundings,
    names: &'a Names,
    /// The first random number; then others.
    pub(super) random: Cell<u32>,
    pub(super) asked: Cell<bool>,
    /// The device at which the packet is.
    pub(super) at: Cell<u32>,
    /// The setting by which no way out was looked for.
    pub(super) not_forwarding: RefCell<Option<String>>,
    /// The newest time that an entry has: the data path's clock cannot be read from here.
    pub(super) ticks: Cell<u32>,
    flows: RefCell<Written<A>>,
    /// What was asked, and what came of it.
    pub(super) steps: RefCell<Vec<Step>>,
    /// The frontend that was found.
    pub(super) frontend: Cell<Option<FrontendValue>>,
    /// A backend was picked from a set: no flow had one already, and the client none.
    pub(super) picked: Cell<bool>,
}

impl<'a, A: Traced> Overlay<'a, A> {
    /// `random`: the first random number that the data path is given.
    pub(super) fn new(maps: &'a Lookups<A>, node: &'a dyn Surroundings, names: &'a Names, random: u32) -> Self {
        Self {
            maps,
            node,
            names,
            random: Cell::new(random),
            asked: Cell::new(false),
            at: Cell::default(),
            not_forwarding: RefCell::default(),
            ticks: Cell::new(0),
            flows: RefCell::default(),
            steps: RefCell::default(),
            frontend: Cell::default(),
            picked: Cell::default(),
        }
    }

    pub(super) fn note(&self, asked: impl Into<String>, found: impl Into<String>) {
        let step = Step { asked: asked.into(), found: found.into() };
        let mut steps = self.steps.borrow_mut();
        if !steps.contains(&step) {
            steps.push(step);
        }
    }

    fn find(&self, key: &FlowKey<A>, half_open: bool) -> Option<FlowRef<A>> {
        let written = self.flows.borrow().get(&(half_open, *key)).copied();
        let read = || if half_open { (self.maps.half_open)(key) } else { (self.maps.flows)(key) };
        let value = written.unwrap_or_else(read);
        let table = if half_open { "half-open flow" } else { "established flow" };
        let found = value.map_or_else(|| "none".to_owned(), |value| flow_text(&value));
        self.note(format!("{table} {}", tuple(key)), found);
        let value = value?;
        if value.seen.wrapping_sub(self.ticks.get()) < u32::MAX / 2 {
            self.ticks.set(value.seen);
        }
        Some(FlowRef { key: *key, half_open, decided: false, value })
    }

    fn change(&self, flow: FlowRef<A>, change: impl FnOnce(&mut FlowValue<A>)) -> FlowRef<A> {
        if flow.decided {
            return flow;
        }
        let mut value = flow.value;
        change(&mut value);
        self.flows.borrow_mut().insert((flow.half_open, flow.key), Some(value));
        FlowRef { value, ..flow }
    }

    pub(super) fn front_holds(&self, hash: u64) -> bool {
        let at = filter::position(hash, filter::FRONT_BLOCKS);
        holds((self.maps.front_filter)(&at.block), at)
    }

    pub(super) fn happened(&self, event: u32) -> bool {
        (self.maps.lately)(&(event + u32::from(A::IS_V6))).is_some_and(|last| last != 0)
    }

    pub(super) fn name(&self, service: u32) -> String {
        self.names.get(&service).cloned().unwrap_or_else(|| format!("service id {service}"))
    }

    pub(super) fn device_name(&self, index: u32) -> String {
        self.node.link(index).map_or_else(|_gone| format!("device {index}"), |link| link.name)
    }
}

/// Whether a filter's block has these bits. One that is not there holds everything.
pub(super) fn holds(block: Option<Block>, at: filter::Position) -> bool {
    let word = block.as_ref().and_then(|block| block.get(usize::try_from(at.word).unwrap_or(usize::MAX)));
    word.is_none_or(|word| word & at.bits == at.bits)
}

pub(super) fn end<A: Traced>(addr: A, port: Be16) -> SocketAddr {
    SocketAddr::new(addr.ip(), port.get())
}

pub(super) fn tuple<A: Traced>(key: &FlowKey<A>) -> String {
    format!("{} {} -> {}", dump::protocol(key.proto), end(key.src, key.sport), end(key.dst, key.dport))
}

fn flow_text<A: Traced>(value: &FlowValue<A>) -> String {
    format!("rewrite to {} -> {}", end(value.src, value.sport), end(value.dst, value.dport))
}

pub(super) const fn may(yes: bool) -> &'static str {
    if yes { "it may be" } else { "certainly not" }
}

impl<A: Traced> Env<A> for Overlay<'_, A> {
    const STAGE: Stage = Stage::Whole;
    const DIRECTION: Direction = Direction::Either;
}

impl<A: Traced> Flows<A> for Overlay<'_, A> {
    type Flow = FlowRef<A>;
    type Scratch = Box<Scratch<A>>;
    type Headers = Box<Headers<A>>;

    fn headers(&self) -> Option<Box<Headers<A>>> {
        Some(Box::new(Headers::empty()))
    }

    fn scratch(&self) -> Option<Box<Scratch<A>>> {
        Some(Box::default())
    }

    fn decided(&self, scratch: Box<Scratch<A>>) -> FlowRef<A> {
        FlowRef { key: FlowKey::default(), half_open: false, decided: true, value: scratch.forward }
    }

    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<A>> {
        self.find(key, false)
    }

    fn half_open(&self, key: &FlowKey<A>) -> Option<FlowRef<A>> {
        self.find(key, true)
    }

    fn note(&self, flow: FlowRef<A>, state: u16) -> FlowRef<A> {
        self.change(flow, |value| value.state |= state)
    }

    fn touch(&self, flow: FlowRef<A>) -> FlowRef<A> {
        flow
    }

    // What is marked as used has both of its entries looked at.
    fn is_stale(&self, _flow: FlowRef<A>) -> bool {
        true
    }

    fn renumber(&self, flow: FlowRef<A>, next: u32) -> FlowRef<A> {
        self.change(flow, |value| value.next = next)
    }

    fn begin_again(&self, flow: FlowRef<A>, next: u32) -> FlowRef<A> {
        self.change(flow, |value| (value.state, value.next) = (value.state & !flow_state::CLOSED, next))
    }

    fn reopen(&self, flow: FlowRef<A>, opening: u32) -> FlowRef<A> {
        self.change(flow, |value| value.born = opening)
    }

    fn come_by(&self, flow: FlowRef<A>, from: u32) -> FlowRef<A> {
        self.change(flow, |value| value.from = from)
    }

    fn follow(&self, flow: FlowRef<A>, ifindex: u32) -> FlowRef<A> {
        self.change(flow, |value| value.ifindex = ifindex)
    }

    fn tally(&self, _flow: FlowRef<A>, _tally: Tally) {}

    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        self.flows.borrow_mut().insert((false, *key), Some(*value));
        true
    }

    fn insert_half_open(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        self.note(format!("would write a flow {}", tuple(key)), flow_text(value));
        self.flows.borrow_mut().insert((true, *key), Some(*value));
        true
    }

    fn remove_flow(&self, key: &FlowKey<A>) {
        self.flows.borrow_mut().insert((false, *key), None);
    }

    fn remove_half_open(&self, key: &FlowKey<A>) {
        self.flows.borrow_mut().insert((true, *key), None);
    }

    fn may_be_flow(&self, key: &FlowKey<A>) -> bool {
        let written = self.flows.borrow().keys().any(|(_, other)| filter::flow_hash(other) == filter::flow_hash(key));
        let (block, cell) = filter::cell(filter::flow_hash(key));
        let half = (self.maps.lately)(&(lately::FLOW_FILTER + u32::from(A::IS_V6))).unwrap_or(0);
        let yes = written || half == 0 || {
            let cells = (self.maps.flow_filter)(&((half - 1) * filter::FLOW_BLOCKS + block));
            cells.is_none_or(|cells| cells.get(usize::try_from(cell).unwrap_or(0)).is_none_or(|cell| *cell != 0))
        };
        self.note(format!("filter of flows: {} and {}", end(key.src, key.sport), end(key.dst, key.dport)), may(yes));
        yes
    }

    fn remaps(&self) -> bool {
        self.happened(lately::REMAP)
    }

    fn note_remap(&self) {}

    fn is_carrying(&self) -> bool {
        false
    }

    fn is_formers(&self, _key: &FlowKey<A>) -> bool {
        false
    }

    fn overflows(&self) -> bool {
        self.happened(lately::OVERFLOW)
    }

    fn note_overflow(&self) {}
}

impl<A: Traced> Fragments<A> for Overlay<'_, A> {
    type Held = Box<HeldValue>;

    // A trace sends no fragments.
    fn fragment(&self, _key: &FragmentKey<A>) -> Option<FragmentValue> {
        None
    }

    fn set_fragment(&self, _key: &FragmentKey<A>, _value: &FragmentValue) {}

    fn early(&self, _key: &FragmentKey<A>) -> Option<Waiting> {
        None
    }

    fn set_early(&self, _key: &FragmentKey<A>, _value: Option<Waiting>) {}

    fn sender(&self, _key: &SenderKey<A>) -> Option<Waiting> {
        None
    }

    fn set_sender(&self, _key: &SenderKey<A>, _value: &Waiting) {}

    fn held(&self, _key: &HeldKey<A>) -> Option<Box<HeldValue>> {
        None
    }

    fn set_held(&self, _key: &HeldKey<A>, _value: Option<&HeldValue>) {}
}
