//! What vectors play against: a node with Sluice's hooks.

use super::family::Family;
use crate::abi::{
    BackendValue, Counter, EventValue, FamilyConfig, FlowKey, FlowValue, FrontendKey, FrontendValue, StatsValue,
    flow_kind,
};
pub use crate::datapath::Hook;

/// Index of the device with Pods behind it.
pub const POD: u32 = 10;
/// Index of the uplink.
pub const UPLINK: u32 = 20;
/// Index of the second uplink.
pub const UPLINK2: u32 = 30;

impl Hook {
    /// The device that the hook is on, where nothing else is said.
    pub fn device(self) -> u32 {
        if self.is_uplink() { UPLINK } else { POD }
    }

    /// Name of the TC program.
    pub fn program(self) -> &'static str {
        match self {
            Self::PodIngress => "pod_ingress",
            Self::PodEgress => "pod_egress",
            Self::UplinkIngress => "uplink_ingress",
            Self::UplinkEgress => "uplink_egress",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes on its way through the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Leaves by route. Its Ethernet addresses are the next hop's; they do not count.
    Route,
    /// Back out of the device that it came from, Ethernet addresses swapped.
    Back,
}

/// What became of a packet, and what it looks like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happens to it.
    pub action: Action,
    /// Its bytes; empty if it was dropped.
    pub bytes: Vec<u8>,
}

/// A node with Sluice's hooks: in memory or in the kernel.
pub trait Node<A: Family> {
    /// Forgets everything: tables, flows and counters.
    fn reset(&mut self);
    /// Writes the settings.
    fn set_config(&mut self, config: FamilyConfig<A>);
    /// Says behind which devices Pods of this node are, where clients are told apart by device; at first: none.
    fn set_local(&mut self, devices: &[u32]);
    /// Writes or removes a frontend.
    fn set_frontend(&mut self, key: FrontendKey<A>, value: Option<FrontendValue>);
    /// Writes a slot.
    fn set_slot(&mut self, index: u32, backend: u32);
    /// Writes the table of a set.
    fn set_table(&mut self, set: u32, bytes: &[u8]);
    /// Writes a backend. What programs have written into one of its generation stays.
    fn set_backend(&mut self, id: u32, value: BackendValue<A>);
    /// Allows a range of clients.
    fn allow_range(&mut self, service: u32, net: A, prefix: u32);
    /// Removes an entry from the flow tables, as the kernel does when one is full.
    fn forget(&mut self, key: &FlowKey<A>);
    /// Lets time go by, as far as affinity, half-open flows and silent backends are concerned.
    fn pass_seconds(&mut self, seconds: u64);
    /// Sends a packet into a hook of a device.
    fn send(&mut self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome;
    /// Packets that were put into a hook anew since the last call, in their order.
    fn replayed(&mut self) -> Vec<Vec<u8>>;
    /// Value of a counter.
    fn counter(&mut self, counter: Counter) -> u64;
    /// How often a service port's clients got nothing for this reason.
    fn causes(&mut self, service: u32, cause: Counter) -> u64;
    /// What was counted for a backend.
    fn stats(&mut self, backend: u32) -> StatsValue;
    /// What established flows to a backend have gathered, to be counted later.
    fn gathered(&mut self, backend: u32) -> StatsValue;
    /// From here on somebody listens.
    fn listen(&mut self);
    /// Events since the last call.
    fn told(&mut self) -> Vec<EventValue<A>>;
    /// From here on XDP may leave to TC what it cannot do. Nodes without XDP have nothing to do.
    fn expect_hand_over(&mut self) {}
    /// Entries of the established and of the embryonic table.
    fn flows(&mut self) -> (usize, usize);
}

/// The sum of what these flows have gathered for a backend.
pub fn gathered<A>(flows: impl Iterator<Item = FlowValue<A>>, backend: u32) -> StatsValue {
    flows.filter(|flow| flow.backend == backend).fold(StatsValue::default(), |sum, flow| {
        let (packets, bytes) = (u64::from(flow.tally.packets), u64::from(flow.tally.bytes));
        let one = if flow.kind == flow_kind::FORWARD {
            StatsValue { packets, bytes, ..StatsValue::default() }
        } else {
            StatsValue { reply_packets: packets, reply_bytes: bytes, ..StatsValue::default() }
        };
        sum.plus(&one)
    })
}
