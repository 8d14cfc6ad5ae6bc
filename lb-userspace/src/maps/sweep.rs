//! Removes flows that are finished or idle, so that the tables have room for live ones and not only for the newest.
//!
//! Both entries of a flow are decided together: the newer `seen` and the union of their states count.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::Pod;
use lb_common::abi::filter::{address_hash, backend_address_hash, endpoint_hash, frontend_address_hash};
use lb_common::abi::{Address, Be16, FlowKey, FlowValue, V4, V6, flow_kind, flow_state, map_name, proto};

use super::address::MapAddress;
use super::failure::TableFailure;
use super::filters::{FlowEnds, LiveFlows};
use super::flow_filter::FlowFilter;
use super::flows::{FlowTable, is_request, reverse_key};
use super::jiffies::Ticks;
use crate::model::family::PerFamily;

/// Idle times after which a flow is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, both directions open.
    pub tcp_established: Duration,
    /// TCP, one direction closed.
    pub tcp_half_closed: Duration,
    /// TCP, both directions closed, or reset.
    pub tcp_closed: Duration,
    /// Everything else that has seen a reply.
    pub datagram: Duration,
    /// TCP whose client has not answered its backend yet.
    pub tcp_half_open: Duration,
    /// The same for everything else, as conntrack's `nf_conntrack_udp_timeout`.
    pub datagram_half_open: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: Duration::from_secs(24 * 3600),
            tcp_half_closed: Duration::from_secs(3600),
            // As conntrack's `nf_conntrack_tcp_timeout_time_wait`: the backend remembers as long.
            tcp_closed: Duration::from_secs(120),
            datagram: Duration::from_secs(180),
            tcp_half_open: Duration::from_secs(60),
            datagram_half_open: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    fn half_open(&self, protocol: u8) -> Duration {
        if protocol == proto::TCP { self.tcp_half_open } else { self.datagram_half_open }
    }

    /// How long a flow of this kind may be idle. `states`: of the request's and of the reply's direction.
    fn of(&self, protocol: u8, established: bool, states: (u16, u16)) -> Duration {
        let (request, reply) = states;
        if !established {
            return self.half_open(protocol);
        }
        if protocol != proto::TCP {
            return self.datagram;
        }
        if (request | reply) & flow_state::RST != 0 || request & reply & flow_state::FIN != 0 {
            return self.tcp_closed;
        }
        if (request | reply) & flow_state::FIN != 0 {
            return self.tcp_half_closed;
        }
        self.tcp_established
    }
}

/// Flows taken out by one sweep, and flows left.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Taken out.
    pub removed: usize,
    /// Left.
    pub live: usize,
    /// Frontends and backends of the flows that were there.
    pub in_use: LiveFlows,
}

/// Sweeps again and again. From its making on, the data path notes new flows where the next sweep finds them.
pub struct Sweeper {
    dir: PathBuf,
    ticks: Ticks,
    timeouts: Timeouts,
    pause: Duration,
    filters: PerFamily<FlowFilter>,
}

impl Sweeper {
    /// Pauses between chunks of a table.
    pub fn new(pin_path: &Path, ticks: Ticks, timeouts: Timeouts, pause: Duration) -> Result<Self, TableFailure> {
        let dir = pin_path.join("maps");
        let filters = PerFamily { v4: FlowFilter::prepare::<V4>(&dir)?, v6: FlowFilter::prepare::<V6>(&dir)? };
        Ok(Self { dir, ticks, timeouts, pause, filters })
    }

    /// Sweeps all tables once. Not before flows that the data path was making when the last sweep ended, or when this was
    /// made, are in their table: some milliseconds later at the earliest.
    pub fn sweep(&mut self) -> Result<Swept, TableFailure> {
        let Self { dir, ticks, timeouts, pause, filters } = self;
        let swept = sweep(dir, *ticks, timeouts, *pause, filters)?;
        self.filters.v4.complete()?;
        self.filters.v6.complete()?;
        Ok(swept)
    }
}

fn sweep(
    dir: &Path,
    ticks: Ticks,
    timeouts: &Timeouts,
    pause: Duration,
    filters: &mut PerFamily<FlowFilter>,
) -> Result<Swept, TableFailure> {
    let in_use = LiveFlows { since: Instant::now(), ends: PerFamily::from_fn(|_| FlowEnds::default()) };
    let mut swept = Swept { removed: 0, live: 0, in_use };
    // In the order in which a flow moves: none is missed because it moves meanwhile.
    let (half_open, flows) = (map_name::HALF_OPEN, map_name::FLOWS);
    for (names, others, established) in [(half_open, flows, false), (flows, half_open, true)] {
        let policy = SweepPolicy { ticks, timeouts, established, pause };
        let open = |at: usize| {
            Ok::<_, TableFailure>((FlowTable::<V4>::open(dir, names[at])?, FlowTable::<V4>::open(dir, others[at])?))
        };
        policy.sweep(open(0)?, &mut filters.v4, &mut swept)?;
        let open = |at: usize| {
            Ok::<_, TableFailure>((FlowTable::<V6>::open(dir, names[at])?, FlowTable::<V6>::open(dir, others[at])?))
        };
        policy.sweep(open(1)?, &mut filters.v6, &mut swept)?;
    }
    Ok(swept)
}

/// Notes the frontend and the backend of an entry.
fn note_ends<A: Address>(ends: &mut FlowEnds, key: &FlowKey<A>, value: &FlowValue<A>) {
    if value.kind == flow_kind::FORWARD {
        ends.frontends.insert(endpoint_hash(key.dst, key.dport), address_hash(key.dst));
        ends.addresses.insert(frontend_address_hash(key.dst));
    }
    let (addr, port) = backend(key, value);
    ends.backends.insert(endpoint_hash(addr, port));
    ends.addresses.insert(backend_address_hash(addr));
}

/// Address and port of an entry's backend.
fn backend<A: Address>(key: &FlowKey<A>, value: &FlowValue<A>) -> (A, Be16) {
    match value.kind {
        flow_kind::REVERSE => (key.dst, key.dport),
        flow_kind::REVERSE_SNAT => (key.src, key.sport),
        _ => (value.dst, value.dport),
    }
}

/// Whether two entries are one flow's: a request's and its reply's, each with the other's key. A Service's entry may have the
/// key that a direct connection's would have, which got another port for that.
fn is_pair<A: MapAddress>(one: (&FlowKey<A>, &FlowValue<A>), other: (&FlowKey<A>, &FlowValue<A>)) -> bool {
    is_request(one.1.kind) != is_request(other.1.kind) && reverse_key(other.0, other.1) == *one.0
}

/// Which flows of one table go.
#[derive(Clone, Copy)]
struct SweepPolicy<'a> {
    ticks: Ticks,
    timeouts: &'a Timeouts,
    established: bool,
    pause: Duration,
}

impl SweepPolicy<'_> {
    /// Sweeps the first table. The other entry of a direct connection with a changed port is in the second, since its own
    /// place there is a Service's.
    fn sweep<A>(
        &self,
        (mut table, mut aside): (FlowTable<A>, FlowTable<A>),
        filter: &mut FlowFilter,
        swept: &mut Swept,
    ) -> Result<(), TableFailure>
    where
        A: MapAddress + 'static,
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let mut over = Vec::new();
        let mut noted = Ok(());
        table.walk(|keys, values| {
            let now = self.ticks.now();
            for (key, value) in keys.iter().zip(values) {
                if value.kind == flow_kind::OWN {
                    if self.is_finished(now, key.proto, value, None) {
                        over.push((*key, None));
                    }
                    continue;
                }
                if let Err(failure) = filter.add(key, value.kind) {
                    noted = Err(failure);
                    return ControlFlow::Break(());
                }
                note_ends(&mut swept.in_use.ends[A::FAMILY], key, value);
                let other = reverse_key(key, value);
                let of_flow = |found: &FlowValue<A>| is_pair((key, value), (&other, found));
                let here = table.get(&other).filter(of_flow);
                let there = if here.is_none() { aside.get(&other).filter(of_flow) } else { None };
                let reply = here.or(there);
                if !is_request(value.kind) && reply.is_some() {
                    // Decided with its reverse flow.
                    continue;
                }
                let policy = SweepPolicy { established: self.established || there.is_some(), ..*self };
                if policy.is_finished(now, key.proto, value, reply.as_ref()) {
                    over.push((*key, reply.map(|_| (other, there.is_some()))));
                } else {
                    swept.live += 1;
                }
            }
            std::thread::sleep(self.pause);
            ControlFlow::Continue(())
        })?;
        noted?;
        for (key, other) in over {
            table.remove(&key)?;
            match other {
                Some((other, true)) => aside.remove(&other)?,
                Some((other, false)) => table.remove(&other)?,
                None => {}
            }
            swept.removed += 1;
        }
        Ok(())
    }

    fn is_finished<A>(&self, now: u32, protocol: u8, value: &FlowValue<A>, reverse: Option<&FlowValue<A>>) -> bool {
        let idle = |value: &FlowValue<A>| self.ticks.since(now, value.seen);
        let quiet = reverse.map_or(Duration::MAX, idle).min(idle(value));
        let limit = match reverse {
            // A connection of the node's own is one entry, with the states of both directions.
            None if value.kind == flow_kind::OWN => {
                self.timeouts.of(protocol, value.state & flow_state::REPLIED != 0, (value.state, value.state))
            }
            Some(reverse) => {
                // One that had to make room for a direct connection's entry, and whose client has not answered its backend.
                let waits = value.kind == flow_kind::FORWARD && value.ifindex == 0;
                self.timeouts.of(protocol, self.established && !waits, (value.state, reverse.state))
            }
            // Half of a flow is of no use for long.
            None => self.timeouts.half_open(protocol),
        };
        quiet > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS: Ticks = Ticks { per_second: 100 };

    fn flow(seen: u32, state: u16) -> FlowValue<V4> {
        FlowValue { seen, state, ..FlowValue::default() }
    }

    fn over(protocol: u8, established: bool, request: &FlowValue<V4>, reply: Option<&FlowValue<V4>>) -> bool {
        let timeouts = Timeouts::default();
        SweepPolicy { ticks: TICKS, timeouts: &timeouts, established, pause: Duration::ZERO }
            .is_finished(100_000, protocol, request, reply)
    }

    #[test]
    fn a_flow_with_one_busy_direction_is_not_idle() {
        let (old, new) = (flow(0, 0), flow(99_000, 0));
        assert!(over(proto::UDP, true, &old, Some(&old)));
        assert!(!over(proto::UDP, true, &old, Some(&new)));
        assert!(!over(proto::UDP, true, &new, Some(&old)));
    }

    #[test]
    fn tcp_is_closed_by_two_fins_or_one_reset() {
        let at = |state| flow(100_000 - 121 * 100, state);
        assert!(over(proto::TCP, true, &at(flow_state::FIN), Some(&at(flow_state::FIN))));
        assert!(over(proto::TCP, true, &at(0), Some(&at(flow_state::RST))));
        assert!(!over(proto::TCP, true, &at(flow_state::FIN), Some(&at(0))));
        assert!(!over(proto::TCP, true, &at(0), Some(&at(0))));
    }

    #[test]
    fn flows_without_a_reply_and_halves_of_flows_go_after_a_minute() {
        let old = flow(100_000 - 61 * 100, 0);
        assert!(over(proto::TCP, false, &old, Some(&old)));
        assert!(over(proto::TCP, true, &old, None));
    }

    #[test]
    fn a_flow_that_made_room_for_another_is_no_established_one_until_its_client_answers() {
        let idle =
            |seconds: u32, ifindex| FlowValue { kind: flow_kind::FORWARD, ifindex, ..flow(100_000 - seconds * 100, 0) };
        for (protocol, limit) in [(proto::TCP, 60), (proto::UDP, 30)] {
            let over = |seconds, ifindex| over(protocol, true, &idle(seconds, ifindex), Some(&idle(seconds, ifindex)));
            assert!(over(limit + 1, 0) && !over(limit - 1, 0) && !over(limit + 1, 7));
        }
    }

    /// Key and value of an entry that turns one pair of ends into another.
    fn entry(kind: u8, from: (u16, u16), to: (u16, u16)) -> (FlowKey<V4>, FlowValue<V4>) {
        let address = |port: u16| V4::new([10, 0, 0, u8::try_from(port / 1_000).unwrap()]);
        let (src, dst) = (address(from.0), address(from.1));
        let (sport, dport) = (Be16::new(from.0), Be16::new(from.1));
        let key = FlowKey { src, dst, sport, dport, proto: proto::TCP, pad: [0; 3] };
        let (src, dst, sport, dport) = (address(to.0), address(to.1), Be16::new(to.0), Be16::new(to.1));
        (key, FlowValue { src, dst, sport, dport, kind, ..FlowValue::default() })
    }

    #[test]
    fn a_services_entry_is_not_taken_for_that_of_a_direct_connection_with_its_tuple() {
        // The client's port 1000, the Service's 2000, the Pod's 3000; 1001 is the port that the direct connection got.
        let service = entry(flow_kind::FORWARD, (1_000, 2_000), (1_000, 3_000));
        let reply = entry(flow_kind::REVERSE, (1_000, 3_000), (2_000, 1_000));
        let direct = entry(flow_kind::DIRECT, (1_000, 3_000), (1_001, 3_000));
        let answer = entry(flow_kind::REVERSE, (1_001, 3_000), (3_000, 1_000));
        assert_eq!(reverse_key(&answer.0, &answer.1), reply.0);
        for (one, other, pair) in [
            (&service, &reply, true),
            (&direct, &answer, true),
            (&answer, &reply, false),
            (&service, &answer, false),
            (&direct, &reply, false),
        ] {
            assert_eq!(is_pair((&one.0, &one.1), (&other.0, &other.1)), pair);
            assert_eq!(is_pair((&other.0, &other.1), (&one.0, &one.1)), pair);
        }
    }

    #[test]
    fn a_connection_of_the_nodes_own_is_kept_like_any_other() {
        let at = |seconds: u32, state| FlowValue { kind: flow_kind::OWN, ..flow(100_000 - seconds * 100, state) };
        assert!(!over(proto::TCP, false, &at(600, flow_state::REPLIED), None));
        assert!(over(proto::TCP, false, &at(61, 0), None));
        assert!(over(proto::TCP, false, &at(121, flow_state::REPLIED | flow_state::RST), None));
        assert!(!over(proto::UDP, false, &at(179, flow_state::REPLIED), None));
        assert!(over(proto::UDP, false, &at(181, flow_state::REPLIED), None));
    }

    #[test]
    fn a_tick_in_the_future_is_now_and_the_counter_may_wrap() {
        assert_eq!(TICKS.since(100, 200), Duration::ZERO);
        assert_eq!(TICKS.since(100, u32::MAX - 99), Duration::from_secs(2));
    }
}
