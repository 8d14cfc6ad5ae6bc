//! [`Env`] in plain memory: tables as hash maps, and routes, clock and chance by decree.

use core::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use super::family::{Family, HOST_MAC};
use super::filter::TestFilter;
use super::flow_ref::FlowRef;
use super::fragments::FragmentTables;
use super::host::MTU;
use super::node::{UPLINK, UPLINK2};
use super::watch::Listener;
use crate::abi::device_flag;
use crate::abi::filter;
use crate::abi::{
    AffinityKey, AffinityValue, BackendValue, EventValue, FamilyConfig, FlowKey, FlowValue, FrontendKey, FrontendValue,
    OutlierValue, SocketKey, SocketValue, StatsValue, Tally, flow_state,
};
use crate::datapath::{Direction, Env, Flows, Headers, Host, NextHop, Route, Scratch, Stage, Watch};
use crate::wire::ethernet::mac_words;

/// How often each kind of table was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Hash tables: flows, frontends, affinity, fragments.
    pub hashes: u32,
    /// Arrays: slots, backends.
    pub arrays: u32,
}

type FlowTable<A> = RefCell<HashMap<FlowKey<A>, FlowValue<A>>>;

/// A node's tables for one address family.
#[derive(Debug)]
pub struct Memory<A> {
    /// Established flows.
    pub flows: FlowTable<A>,
    /// Flows without a reply.
    pub half_open: FlowTable<A>,
    /// Frontends.
    pub frontends: HashMap<FrontendKey<A>, FrontendValue>,
    /// Slots.
    pub slots: HashMap<u32, u32>,
    /// Backends.
    pub backends: HashMap<u32, BackendValue<A>>,
    /// What programs write into backends, by id and generation: `silent` and `answered`.
    pub silence: RefCell<HashMap<(u32, u32), (u16, u32)>>,
    /// Allowed clients: service, network, prefix length.
    pub ranges: Vec<(u32, A, u32)>,
    /// Affinity.
    pub affinity: RefCell<HashMap<AffinityKey<A>, AffinityValue>>,
    /// Fragments.
    pub fragments: FragmentTables<A>,
    /// How far round robin is, by a set's first slot.
    pub turns: RefCell<HashMap<u32, u32>>,
    /// Tables of sets, by their first slot.
    pub tables: HashMap<u32, Vec<u8>>,
    /// Devices behind which Pods of this node are, where clients are told apart by device.
    pub local: Vec<u32>,
    /// Sockets led to a backend.
    pub sockets: RefCell<HashMap<SocketKey<A>, SocketValue<A>>>,
    /// Settings.
    pub config: FamilyConfig<A>,
    /// The clock.
    pub now_ns: Cell<u64>,
    /// State of the random number generator.
    pub seed: Cell<u64>,
    /// Whether flow tables refuse new entries.
    pub full: Cell<bool>,
    /// Counters by index.
    pub counters: RefCell<HashMap<u32, u64>>,
    /// Causes by service id and counter.
    pub causes: RefCell<HashMap<(u32, u32), u64>>,
    /// Traffic by backend.
    pub stats: RefCell<HashMap<u32, StatsValue>>,
    /// How connections to backends went that are judged.
    pub outliers: RefCell<HashMap<u32, OutlierValue>>,
    /// Look-ups so far.
    pub lookups: Cell<Lookups>,
    /// Addresses of frontends.
    pub front_filter: TestFilter,
    /// Addresses of backends.
    pub back_filter: TestFilter,
    /// Cells of clients and backends that have had flows.
    pub flow_filter: RefCell<HashSet<(u32, u32)>>,
    /// Addresses of both, whatever the port.
    pub address_filter: TestFilter,
    /// Buckets of refusals.
    pub refusals: RefCell<HashMap<u32, u64>>,
    /// Who listens.
    pub listener: Listener<A>,
    /// Whether a direct connection was given another port.
    pub remaps: Cell<bool>,
    /// Whether the table of established flows was full.
    pub overflows: Cell<bool>,
    /// Keys of flows that only a former agent's tables have, while they are carried over.
    pub former: RefCell<HashSet<FlowKey<A>>>,
    /// `device_flag::PEER` where Pods' devices have another end to redirect to, else 0.
    pub peers: u32,
}

impl<A: Family> Default for Memory<A> {
    fn default() -> Self {
        Self {
            flows: RefCell::default(),
            half_open: RefCell::default(),
            frontends: HashMap::new(),
            slots: HashMap::new(),
            backends: HashMap::new(),
            silence: RefCell::default(),
            ranges: Vec::new(),
            affinity: RefCell::default(),
            fragments: FragmentTables::default(),
            turns: RefCell::default(),
            tables: HashMap::new(),
            local: Vec::new(),
            sockets: RefCell::default(),
            config: FamilyConfig::default(),
            now_ns: Cell::new(1_000_000_000_000),
            seed: Cell::new(0x5eed),
            full: Cell::new(false),
            counters: RefCell::default(),
            causes: RefCell::default(),
            stats: RefCell::default(),
            outliers: RefCell::default(),
            lookups: Cell::default(),
            front_filter: TestFilter::new(filter::FRONT_BLOCKS),
            back_filter: TestFilter::new(filter::BACK_BLOCKS),
            flow_filter: RefCell::default(),
            address_filter: TestFilter::new(filter::ADDRESS_BLOCKS),
            refusals: RefCell::default(),
            listener: Listener::default(),
            former: RefCell::default(),
            remaps: Cell::default(),
            overflows: Cell::default(),
            peers: 0,
        }
    }
}

impl<A: Family> Memory<A> {
    fn note_flow(&self, key: &FlowKey<A>, kind: u8) {
        if filter::is_noted(kind) {
            self.flow_filter.borrow_mut().insert(filter::cell(filter::flow_hash(key)));
        }
    }

    pub(super) fn hash(&self) {
        let Lookups { hashes, arrays } = self.lookups.get();
        self.lookups.set(Lookups { hashes: hashes + 1, arrays });
    }

    pub(super) fn array(&self) {
        let Lookups { hashes, arrays } = self.lookups.get();
        self.lookups.set(Lookups { hashes, arrays: arrays + 1 });
    }

    fn table(&self, half_open: bool) -> &FlowTable<A> {
        if half_open { &self.half_open } else { &self.flows }
    }

    fn find(&self, key: &FlowKey<A>, half_open: bool) -> Option<FlowRef<A>> {
        self.hash();
        let value = *self.table(half_open).borrow().get(key)?;
        Some(FlowRef { key: *key, half_open, decided: false, value })
    }

    /// Changes an entry, if it is still there, and returns it as it is then.
    fn change(&self, flow: FlowRef<A>, change: impl FnOnce(&mut FlowValue<A>)) -> FlowRef<A> {
        let mut table = self.table(flow.half_open).borrow_mut();
        match table.get_mut(&flow.key) {
            Some(value) if !flow.decided => {
                change(value);
                FlowRef { value: *value, ..flow }
            }
            _ => flow,
        }
    }
}

impl<A: Family> Env<A> for Memory<A> {
    const STAGE: Stage = Stage::Whole;
    const DIRECTION: Direction = Direction::Either;
}

impl<A: Family> Flows<A> for Memory<A> {
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

    fn may_be_flow(&self, key: &FlowKey<A>) -> bool {
        self.flow_filter.borrow().contains(&filter::cell(filter::flow_hash(key)))
    }

    fn remaps(&self) -> bool {
        self.remaps.get()
    }

    fn note_remap(&self) {
        self.remaps.set(true);
    }

    fn is_carrying(&self) -> bool {
        !self.former.borrow().is_empty()
    }

    fn is_formers(&self, key: &FlowKey<A>) -> bool {
        self.former.borrow().contains(key)
            && !self.flows.borrow().contains_key(key)
            && !self.half_open.borrow().contains_key(key)
    }

    fn overflows(&self) -> bool {
        self.overflows.get()
    }

    fn note_overflow(&self) {
        self.overflows.set(true);
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
        let now = self.ticks();
        self.change(flow, |value| {
            if value.seen != now {
                value.seen = now;
                value.tally.burst = 0;
            }
        })
    }

    fn is_stale(&self, flow: FlowRef<A>) -> bool {
        flow.seen != self.ticks()
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

    fn tally(&self, flow: FlowRef<A>, tally: Tally) {
        self.change(flow, |value| value.tally = tally);
    }

    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        !self.full.get() && {
            self.note_flow(key, value.kind);
            self.flows.borrow_mut().insert(*key, *value);
            true
        }
    }

    fn insert_half_open(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool {
        !self.full.get() && {
            self.note_flow(key, value.kind);
            self.half_open.borrow_mut().insert(*key, *value);
            true
        }
    }

    fn remove_flow(&self, key: &FlowKey<A>) {
        self.flows.borrow_mut().remove(key);
    }

    fn remove_half_open(&self, key: &FlowKey<A>) {
        self.half_open.borrow_mut().remove(key);
    }
}

impl<A: Family> Host<A> for Memory<A> {
    fn config(&self) -> &FamilyConfig<A> {
        &self.config
    }

    fn route(&self, dst: A) -> Option<Route<A>> {
        let (_, ifindex) = *A::ROUTES.iter().find(|(net, _)| dst.and(net.mask) == net.net)?;
        let source = match ifindex {
            UPLINK => A::NODE,
            UPLINK2 => A::NODE2,
            _ => A::ZERO,
        };
        Some(Route { ifindex, source, flags: self.device_flags(ifindex) })
    }

    fn device_flags(&self, ifindex: u32) -> u32 {
        let role = match ifindex {
            UPLINK | UPLINK2 => device_flag::UPLINK,
            _ => device_flag::POD | self.peers,
        };
        role | if self.local.contains(&ifindex) { device_flag::LOCAL } else { 0 }
    }

    fn hardware_address(&self, _ifindex: u32) -> Option<(u32, u16)> {
        Some(mac_words(HOST_MAC))
    }

    fn next_hop(&self, dst: A, length: u16) -> Option<NextHop> {
        let route = self.route(dst)?;
        let limit = if length > MTU { MTU } else { 0 };
        // As `bpf_fib_lookup` has it, which does not look for the neighbour then.
        Some(NextHop { ifindex: route.ifindex, resolved: limit == 0, limit, ethernet: [0; 3] })
    }

    fn leads(&self, ifindex: u32, _src: A, dst: A) -> bool {
        let routed = |(net, by): &(crate::abi::Cidr<A>, u32)| *by == ifindex && dst.and(net.mask) == net.net;
        self.device_flags(ifindex) & device_flag::UPLINK != 0 && A::ROUTES.iter().any(routed)
    }

    fn random(&self) -> u32 {
        // xorshift64*
        let mut x = self.seed.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.seed.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn ticks(&self) -> u32 {
        (self.now_ns.get() / 4_000_000) as u32
    }

    fn refusal_clock(&self, bucket: u32) -> u64 {
        self.refusals.borrow().get(&bucket).copied().unwrap_or(0)
    }

    fn set_refusal_clock(&self, bucket: u32, clock: u64) {
        self.refusals.borrow_mut().insert(bucket, clock);
    }
}

impl<A: Family> Watch<A> for Memory<A> {
    fn is_watched(&self) -> bool {
        self.listener.is_there.get()
    }

    fn through_memory(&self, word: u64) -> Option<u64> {
        Some(word)
    }

    fn tell(&self, event: &EventValue<A>) {
        self.listener.events.borrow_mut().push(*event);
    }
}
