//! Which of a flow's packets are counted, for whom, and when.
//!
//! A backend's count is in memory of its own, which is far away when many backends are busy. So a busy flow's packets
//! are gathered in its own entry, which is at hand, and added to the count together. A flow that is not busy, or that is
//! closing, is counted packet by packet.

use super::env::Env;
use crate::abi::{Address, Tally, flow_kind, flow_state};

/// Packets since the entry's `seen` last changed that make a flow a busy one.
const BUSY: u32 = 8;
/// Packets that are gathered are fewer than this.
const PACKETS: u32 = 32;
/// Bytes that are gathered are fewer than this.
const BYTES: u32 = 64 << 10;

/// Counts a packet (or several, where offloads put them together) that was rewritten as `flow` says, for the flow's
/// backend. A direct connection has none. Two processors at one entry at the same time may miscount what is gathered
/// there.
#[inline(always)]
pub(super) fn account<A: Address, E: Env<A>>(env: &E, flow: E::Flow, packets: u32, bytes: u32) {
    if flow.backend == 0 {
        return;
    }
    match gather(flow.tally, flow.state, packets, bytes) {
        (tally, None) => env.tally(flow, tally),
        (tally, Some((packets, bytes))) => {
            env.tally(flow, tally);
            env.account(&flow, flow.kind != flow_kind::FORWARD, packets, bytes);
        }
    }
}

/// What is gathered after this, and what is to be counted now.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "both are below the limits above")]
fn gather(tally: Tally, state: u16, packets: u32, bytes: u32) -> (Tally, Option<(u32, u32)>) {
    let (burst, due) = (u32::from(tally.burst), (u32::from(tally.packets) + packets, tally.bytes.wrapping_add(bytes)));
    let busy = burst >= BUSY;
    if busy && due.0 < PACKETS && due.1 < BYTES && state & flow_state::CLOSED == 0 {
        return (Tally { burst: tally.burst, packets: due.0 as u16, bytes: due.1 }, None);
    }
    let burst = if busy { burst } else { (burst + packets).min(BUSY) };
    (Tally { burst: burst as u16, packets: 0, bytes: 0 }, Some(due))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{BackendValue, FlowKey, FlowValue, StatsValue, V4};
    use crate::datapath::env::Flows as _;
    use crate::testkit::Memory;

    /// Counts on an entry with this value; returns the entry.
    fn count(memory: &Memory<V4>, value: FlowValue<V4>, packets: &[(u32, u32)]) -> FlowValue<V4> {
        let key = FlowKey::default();
        memory.insert_flow(&key, &value);
        for &(packets, bytes) in packets {
            memory.flow(&key).into_iter().for_each(|flow| account(memory, flow, packets, bytes));
        }
        let flows = memory.flows.borrow();
        flows.get(&key).copied().unwrap_or_default()
    }

    fn flow(kind: u8, backend: u32) -> FlowValue<V4> {
        FlowValue { kind, backend, generation: 7, ..FlowValue::default() }
    }

    fn memory() -> Memory<V4> {
        let mut memory = Memory::<V4>::default();
        memory.backends.insert(3, BackendValue { generation: 7, ..BackendValue::default() });
        memory
    }

    fn counted(memory: &Memory<V4>) -> (u64, u64) {
        memory.stats.borrow().get(&3).map_or((0, 0), |stats| (stats.packets, stats.bytes))
    }

    #[test]
    fn directions_are_counted_apart_and_what_has_no_backend_not_at_all() {
        let memory = memory();
        count(&memory, flow(flow_kind::FORWARD, 3), &[(2, 100)]);
        count(&memory, flow(flow_kind::REVERSE, 3), &[(1, 60)]);
        count(&memory, flow(flow_kind::REVERSE_SNAT, 3), &[(1, 40)]);
        count(&memory, flow(flow_kind::DIRECT, 0), &[(1, 60)]);
        count(&memory, FlowValue { generation: 6, ..flow(flow_kind::FORWARD, 3) }, &[(1, 60)]);
        let all = memory.stats.borrow();
        let expected =
            StatsValue { packets: 2, bytes: 100, reply_packets: 2, reply_bytes: 100, ..StatsValue::default() };
        assert_eq!((all.len(), all.get(&3)), (1, Some(&expected)));
    }

    #[test]
    fn a_busy_flow_gathers_31_packets_at_most() {
        let memory = memory();
        let mut entry = flow(flow_kind::FORWARD, 3);
        for sent in 1..=200 {
            entry = count(&memory, entry, &[(1, 100)]);
            let lacks = sent - counted(&memory).0;
            assert_eq!((lacks, lacks * 100), (entry.tally.packets.into(), entry.tally.bytes.into()));
            assert!(lacks < 32 && (sent > 8 || lacks == 0), "{lacks} of {sent}");
        }
        assert_eq!(entry.tally.burst, 8);
        let large = count(&memory, entry, &[(1, 66_000)]);
        assert_eq!((counted(&memory), large.tally.packets), ((201, 86_000), 0));
    }

    #[test]
    fn a_closing_flow_and_one_that_was_idle_gather_nothing() {
        let memory = memory();
        let gathering = FlowValue { tally: Tally { burst: 8, packets: 5, bytes: 500 }, ..flow(flow_kind::FORWARD, 3) };
        count(&memory, FlowValue { state: flow_state::FIN, ..gathering }, &[(1, 100), (1, 100)]);
        assert_eq!(counted(&memory), (7, 700));
        let key = FlowKey::default();
        memory.insert_flow(&key, &gathering);
        memory.now_ns.set(memory.now_ns.get() + 10_000_000_000);
        memory.flow(&key).into_iter().for_each(|flow| _ = memory.touch(flow));
        memory.flow(&key).into_iter().for_each(|flow| account(&memory, flow, 1, 100));
        assert_eq!(counted(&memory), (13, 1300));
    }
}
