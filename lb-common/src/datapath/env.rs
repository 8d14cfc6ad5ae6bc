//! What the data path needs around it: tables, time, chance and routes. Implemented in `lb-ebpf` by maps and helpers,
//! in `testkit` by plain memory.

use core::ops::Deref;

use crate::abi::{
    AffinityKey, AffinityValue, BackendValue, Counter, FamilyConfig, FlowKey, FlowValue, FragmentKey, FragmentValue,
    FrontendKey, FrontendValue, SourceRangeKey, Tally,
};

/// Where a packet to some destination would leave the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<A> {
    /// Egress device.
    pub ifindex: u32,
    /// Source address for source NAT out of that device; zero: none known.
    pub source: A,
}

/// Tables, time, chance and routes, for one address family.
pub trait Env<A> {
    /// An entry of a flow table, readable without a second look-up.
    type Flow: Deref<Target = FlowValue<A>> + Copy;

    /// Looks in the established table.
    fn flow(&self, key: &FlowKey<A>) -> Option<Self::Flow>;
    /// Looks in the embryonic table.
    fn embryo(&self, key: &FlowKey<A>) -> Option<Self::Flow>;
    /// Adds bits of `flow_state` to an entry.
    fn note(&self, flow: Self::Flow, state: u16);
    /// Marks an entry as just used; where that changes it, the entry is a busy flow's no more.
    fn touch(&self, flow: Self::Flow);
    /// Replaces what an entry has gathered.
    fn tally(&self, flow: Self::Flow, tally: Tally);
    /// Writes to the established table. False: refused.
    fn insert_flow(&self, key: &FlowKey<A>, value: &FlowValue<A>) -> bool;
    /// Writes to the embryonic table; with `fresh` only if the key is new. False: refused.
    fn insert_embryo(&self, key: &FlowKey<A>, value: &FlowValue<A>, fresh: bool) -> bool;
    /// Removes from the established table.
    fn remove_flow(&self, key: &FlowKey<A>);
    /// Removes from the embryonic table.
    fn remove_embryo(&self, key: &FlowKey<A>);

    /// Frontend by exact key.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue>;
    /// Backend id in a slot; 0: none.
    fn slot(&self, index: u32) -> u32;
    /// Backend by id.
    fn backend(&self, id: u32) -> Option<BackendValue<A>>;
    /// Generation of the backend with this id; 0: free.
    fn generation(&self, id: u32) -> u32;
    /// A client's last backend.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue>;
    /// Notes a client's backend.
    fn set_affinity(&self, key: &AffinityKey<A>, value: &AffinityValue);
    /// Whether a client is in the Service's source ranges.
    fn in_source_range(&self, key: &SourceRangeKey<A>) -> bool;
    /// Ports of a fragmented datagram.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentValue>;
    /// Notes the ports of a fragmented datagram.
    fn set_fragment(&self, key: &FragmentKey<A>, value: &FragmentValue);

    /// Settings.
    fn config(&self) -> &FamilyConfig<A>;
    /// Where a packet to `dst` would leave.
    fn route(&self, dst: A) -> Option<Route<A>>;
    /// A random number.
    fn random(&self) -> u32;
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    fn now_ns(&self) -> u64;
    /// Jiffies, low 32 bits.
    fn ticks(&self) -> u32;
    /// Counts an event.
    fn count(&self, counter: Counter);
    /// Counts packets of a flow towards its backend, or with `reply` from it; none when the backend is gone.
    fn account(&self, flow: &FlowValue<A>, reply: bool, packets: u32, bytes: u32);
    /// Counts a new connection to a backend of this generation.
    fn connected(&self, backend: u32, generation: u32);
}
