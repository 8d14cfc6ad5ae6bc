//! What the data path needs around a packet, by subject. Implemented in `lb-ebpf` by maps and helpers, in `testkit` by
//! plain memory.

use core::ops::{Deref, DerefMut};

use super::arrival::Arrival;
use super::headers::Headers;
use super::scratch::Scratch;
use crate::abi::{
    Address, AffinityKey, AffinityValue, BackendValue, Be16, Counter, EventValue, FamilyConfig, FlowKey, FlowValue,
    FragmentKey, FragmentValue, FrontendKey, FrontendValue, HeldKey, HeldValue, SenderKey, SetRef, SocketKey,
    SocketValue, SourceRangeKey, Tally, Waiting,
};

/// Where a packet to some destination would leave the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<A> {
    /// Egress device.
    pub ifindex: u32,
    /// Source address for source NAT out of that device; zero: none known.
    pub source: A,
    /// What is known of the device: bits of `device_flag`.
    pub flags: u32,
}

/// The next hop of a packet that leaves by redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Egress device.
    pub ifindex: u32,
    /// Whether the neighbour's address is known, and so the addresses below.
    pub resolved: bool,
    /// The packet is larger than this, which is what the way takes. 0: it fits.
    pub limit: u16,
    /// Ethernet destination and source, as they lie in a frame.
    pub ethernet: [u32; 3],
}

/// Which part of the pipeline a program runs. On the host it is the whole; in the kernel a small program sees every
/// packet, and hands those that are rare to a large one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// All of it.
    Whole,
    /// Packets that do not belong to Sluice, and those of established flows.
    First,
    /// The rest.
    Rest,
}

/// The flow tables.
pub trait Flows<A> {
    /// An entry of a flow table, readable without a second look-up.
    type Flow: Deref<Target = FlowValue<A>> + Copy;
    /// Working memory of the slow path.
    type Scratch: DerefMut<Target = Scratch<A>>;
    /// Room for a packet's headers.
    type Headers: DerefMut<Target = Headers<A>>;

    /// Room for headers, as it was left; `None` does not happen.
    fn headers(&self) -> Option<Self::Headers>;
    /// Working memory, as it was left; `None` does not happen.
    fn scratch(&self) -> Option<Self::Scratch>;
    /// The rewrite that the slow path has decided, as if it were an entry.
    fn decided(&self, scratch: Self::Scratch) -> Self::Flow;
    /// Whether flows are being carried over from a former agent's tables: a flow that is not in these may be in those.
    fn is_carrying(&self) -> bool;
    /// Whether only those have a flow of this key: the former agent's program has to see to its packets.
    fn is_formers(&self, key: &FlowKey<A>) -> bool;
    /// Looks in the table of established flows.
    fn flow(&self, key: &FlowKey<A>) -> Option<Self::Flow>;
    /// Looks in the table of half-open flows.
    fn half_open(&self, key: &FlowKey<A>) -> Option<Self::Flow>;
    /// Adds bits of `flow_state` to an entry; returns it as it is then.
    fn note(&self, flow: Self::Flow, state: u16) -> Self::Flow;
    /// Marks an entry as just used; where that changes it, the flow starts being counted afresh. Returns it as it is then.
    fn touch(&self, flow: Self::Flow) -> Self::Flow;
    /// Whether [`Flows::touch`] would change an entry.
    fn is_stale(&self, flow: Self::Flow) -> bool;
    /// Notes the number behind the newest byte of an entry's direction; returns it as it is then.
    fn renumber(&self, flow: Self::Flow, next: u32) -> Self::Flow;
    /// Begins an entry's connection anew: its direction's numbers go on behind this one, and nobody has closed it. Returns it
    /// as it is then.
    fn begin_again(&self, flow: Self::Flow, next: u32) -> Self::Flow;
    /// Notes the number behind a SYN on the live flow of a reverse entry, or 0 for none; returns it as it is then.
    fn reopen(&self, flow: Self::Flow, opening: u32) -> Self::Flow;
    /// Notes the device by which an entry's packets enter the node; returns it as it is then.
    fn come_by(&self, flow: Self::Flow, from: u32) -> Self::Flow;
    /// Notes the device on which a flow's requests come in; returns it as it is then.
    fn follow(&self, flow: Self::Flow, ifindex: u32) -> Self::Flow;
    /// Replaces what an entry has gathered.
    fn tally(&self, flow: Self::Flow, tally: Tally);
    /// Writes to the table of established flows. False: refused.
    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool;
    /// Writes to the table of half-open flows. False: refused.
    fn insert_half_open(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool;
    /// Removes from the table of established flows.
    fn remove_flow(&self, key: &FlowKey<A>);
    /// Removes from the table of half-open flows.
    fn remove_half_open(&self, key: &FlowKey<A>);
    /// Whether a client (the key's source) and a backend may have a flow. Never falsely no.
    fn may_be_flow(&self, key: &FlowKey<A>) -> bool;
    /// Whether direct connections have been given other source ports lately.
    fn remaps(&self) -> bool;
    /// Notes that one has.
    fn note_remap(&self);
    /// Whether the table of established flows has refused some lately, so that half-open ones may be in mid-stream.
    fn overflows(&self) -> bool;
    /// Notes that it has.
    fn note_overflow(&self);
}

/// Fragments: what their first has said, and those that came before it.
pub trait Fragments<A> {
    /// A cell, readable without a second look-up.
    type Held: Deref<Target = HeldValue>;

    /// What a datagram's first fragment has said.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentValue>;
    /// Notes that.
    fn set_fragment(&self, key: &FragmentKey<A>, value: &FragmentValue);
    /// How much of a datagram waits.
    fn early(&self, key: &FragmentKey<A>) -> Option<Waiting>;
    /// Notes how much of a datagram waits; `None`: nothing.
    fn set_early(&self, key: &FragmentKey<A>, value: Option<Waiting>);
    /// How much of a sender's waits.
    fn sender(&self, key: &SenderKey<A>) -> Option<Waiting>;
    /// Notes how much of a sender's waits.
    fn set_sender(&self, key: &SenderKey<A>, value: &Waiting);
    /// A piece of a fragment that waits.
    fn held(&self, key: &HeldKey<A>) -> Option<Self::Held>;
    /// Keeps a piece, or removes it.
    fn set_held(&self, key: &HeldKey<A>, value: Option<&HeldValue>);
}

/// The Services and their endpoints.
pub trait Services<A> {
    /// Whether a packet to this address and port may be a frontend's, or to a `ClusterIP`. Never falsely no.
    fn may_be_frontend(&self, addr: A, port: Be16) -> bool;
    /// Whether a frontend may have this address and port: as [`Services::may_be_frontend`], but not by a `ClusterIP`'s
    /// address alone.
    fn may_be_frontend_port(&self, addr: A, port: Be16) -> bool;
    /// Whether this address and port may be a backend's, or that of a backend that still has flows. Never falsely no.
    fn may_be_backend(&self, addr: A, port: Be16) -> bool;
    /// Whether this address may be a frontend's, whatever its port. Never falsely no.
    fn may_be_frontend_address(&self, addr: A) -> bool;
    /// Whether this address may be a backend's, whatever its port. Never falsely no.
    fn may_be_backend_address(&self, addr: A) -> bool;
    /// Frontend by exact key.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue>;
    /// The place in a set whose turn it is on this processor, below the set's count; the next call gives the one behind.
    fn turn(&self, set: SetRef) -> u32;
    /// A byte of a set's table; `None`: there is no such table.
    fn table(&self, set: u32, byte: u32) -> Option<u8>;
    /// Backend id in a slot; 0: none.
    fn slot(&self, index: u32) -> u32;
    /// Backend by id.
    fn backend(&self, id: u32) -> Option<BackendValue<A>>;
    /// Generation of the backend with this id; 0: free.
    fn generation(&self, id: u32) -> u32;
    /// Writes a backend's `silent`.
    fn set_silent(&self, id: u32, silent: u16);
    /// Writes when a backend has last answered, in ticks.
    fn set_answered(&self, id: u32, ticks: u32);
    /// A client's last backend.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue>;
    /// Notes a client's backend.
    fn set_affinity(&self, key: &AffinityKey<A>, value: &AffinityValue);
    /// Whether a client is in the Service's source ranges.
    fn in_source_range(&self, key: &SourceRangeKey<A>) -> bool;
}

/// The node: settings, devices, routes, time and chance.
pub trait Host<A> {
    /// Settings.
    fn config(&self) -> &FamilyConfig<A>;
    /// What is known of a device: bits of `device_flag`.
    fn device_flags(&self, ifindex: u32) -> u32;
    /// A device's hardware address, as its words lie in a frame; `None`: it has none, it is not known, or the device hands on what is for others, as
    /// a bridge's port does.
    fn hardware_address(&self, ifindex: u32) -> Option<(u32, u16)>;
    /// Where a packet to `dst` would leave.
    fn route(&self, dst: A) -> Option<Route<A>>;
    /// The next hop of a packet of this length (network header and all; 0: not known, or it will be cut up).
    fn next_hop(&self, dst: A, length: u16) -> Option<NextHop>;
    /// Whether a device is an uplink now, and a packet from `src` to `dst` has a route by it.
    fn leads(&self, ifindex: u32, src: A, dst: A) -> bool;
    /// A random number.
    fn random(&self) -> u32;
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    fn now_ns(&self) -> u64;
    /// Jiffies, low 32 bits.
    fn ticks(&self) -> u32;
    /// When a bucket of `refusals` is empty, in the time of [`Host::now_ns`].
    fn refusal_clock(&self, bucket: u32) -> u64;
    /// Sets that.
    fn set_refusal_clock(&self, bucket: u32, clock: u64);
}

/// What is counted.
pub trait Counters<A> {
    /// Counts an event.
    fn count(&self, counter: Counter);
    /// Counts the event with this index.
    fn count_index(&self, index: u32);
    /// Counts packets of a flow towards its backend, or with `reply` from it; none when the backend is gone.
    fn account(&self, flow: &FlowValue<A>, reply: bool, packets: u32, bytes: u32);
    /// Counts a new connection to a backend of this generation; with `waits` it is one whose answer will be seen.
    fn connected(&self, backend: u32, generation: u32, waits: bool);
    /// Counts that a backend has answered a connection, for the first time.
    fn answered(&self, backend: u32, generation: u32);
    /// Counts that a backend has refused a connection or a datagram.
    fn refused(&self, backend: u32, generation: u32);
    /// Counts how new connections of the client with this bit went, for a backend that outlier ejection judges.
    fn went(&self, backend: u32, generation: u32, client: u64, answered: u32, failed: u32);
    /// Counts that a connection to a backend of this generation is open.
    fn opened(&self, backend: u32, generation: u32);
    /// Counts that one is open no more.
    fn ended(&self, backend: u32, generation: u32);
    /// How many are open, by [`Counters::opened`]; `None`: they are not counted.
    fn open(&self, backend: u32, generation: u32) -> Option<u32>;
    /// Counts for a service port why its client got nothing: one of `CAUSES_OF_SERVICES`, by its index.
    fn blame(&self, service: u32, cause: u32);
}

/// Who listens.
pub trait Watch<A> {
    /// Whether somebody does.
    fn is_watched(&self) -> bool;
    /// This number, written to memory and read again; `None` does not happen. The kernel's verifier does not follow values
    /// through memory, so that paths with different ones are one again behind it.
    fn through_memory(&self, word: u64) -> Option<u64>;
    /// Tells what became of a packet.
    fn tell(&self, event: &EventValue<A>);
}

/// Which direction's packets a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that leave.
    Egress,
    /// Both: the arrival says which.
    Either,
}

/// All of it, for one address family.
pub trait Env<A: Address>: Flows<A> + Fragments<A> + Services<A> + Host<A> + Counters<A> + Watch<A> {
    /// Which part of the pipeline runs.
    const STAGE: Stage;
    /// Which direction's packets come: what a program never sees need not be in it.
    const DIRECTION: Direction;

    /// Whether a packet comes in.
    #[inline(always)]
    fn is_ingress(arrival: Arrival) -> bool {
        match Self::DIRECTION {
            Direction::Ingress => true,
            Direction::Egress => false,
            Direction::Either => arrival.hook.is_ingress(),
        }
    }
}

/// The table of sockets, beside what packets need.
pub trait SocketEnv<A: Address>: Services<A> + Host<A> + Counters<A> {
    /// Looks for a socket's entry.
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketValue<A>>;
    /// Writes a socket's entry. False: refused.
    fn set_socket(&self, key: &SocketKey<A>, value: &SocketValue<A>) -> bool;
    /// Removes a socket's entry.
    fn remove_socket(&self, key: &SocketKey<A>);
}
