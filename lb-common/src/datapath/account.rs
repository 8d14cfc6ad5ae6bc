//! What of a flow's packets is counted, and for whom.

use super::env::Env;
use crate::abi::{Address, FlowValue, flow_kind};

/// Counts a packet that was rewritten as `flow` says, for the flow's backend. A direct connection has none.
#[inline(always)]
pub fn account<A: Address, E: Env<A>>(env: &E, flow: &FlowValue<A>, packets: u32, bytes: u32) {
    if flow.backend != 0 {
        env.account(flow, flow.kind != flow_kind::FORWARD, packets, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{BackendValue, StatsValue, V4};
    use crate::testkit::Memory;

    #[test]
    fn directions_are_counted_apart_and_what_has_no_backend_not_at_all() {
        let mut memory = Memory::<V4>::default();
        memory.backends.insert(3, BackendValue { generation: 7, ..BackendValue::default() });
        let flow = |kind, backend| FlowValue::<V4> { kind, backend, generation: 7, ..FlowValue::default() };
        account(&memory, &flow(flow_kind::FORWARD, 3), 2, 100);
        account(&memory, &flow(flow_kind::REVERSE, 3), 1, 60);
        account(&memory, &flow(flow_kind::REVERSE_SNAT, 3), 1, 40);
        account(&memory, &flow(flow_kind::DIRECT, 0), 1, 60);
        account(&memory, &FlowValue { generation: 6, ..flow(flow_kind::FORWARD, 3) }, 1, 60);
        let all = memory.stats.borrow();
        let expected =
            StatsValue { packets: 2, bytes: 100, reply_packets: 2, reply_bytes: 100, ..StatsValue::default() };
        assert_eq!((all.len(), all.get(&3)), (1, Some(&expected)));
    }
}
