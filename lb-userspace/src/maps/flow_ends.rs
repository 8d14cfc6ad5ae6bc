//! Flows that end, seen by looking at the flow tables again and again: an end costs the data path nothing.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::flows::{End, Flow};

/// What a flow is known by: protocol, client, frontend.
type Name = (u8, SocketAddr, SocketAddr);

/// Why a flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have closed it, or one has reset it.
    Closed,
    /// Its entries are gone: it was idle, evicted, or its backend went away.
    Gone,
}

impl Ending {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Gone => "gone",
        }
    }
}

/// A flow that moves between the tables while they are walked is in neither: it is gone when it is missed so often.
const MISSES: u8 = 2;

/// The flows as they were at the last look, and how often each has been missed since.
#[derive(Debug, Default)]
pub struct FlowEnds(Option<HashMap<Name, (Flow, u8)>>);

impl FlowEnds {
    /// Compares the flows of now with those before: which have ended since.
    pub fn look(&mut self, flows: Vec<Flow>) -> Vec<(Flow, Ending)> {
        let name = |flow: &Flow| (flow.protocol, flow.client, flow.frontend);
        let is_open = |flow: &Flow| flow.end != End::Closed;
        let mut now: HashMap<Name, (Flow, u8)> = flows.into_iter().map(|flow| (name(&flow), (flow, 0))).collect();
        let Some(before) = self.0.take() else {
            self.0 = Some(now);
            return Vec::new();
        };
        let was_open = |name: &Name| before.get(name).is_none_or(|(flow, _)| is_open(flow));
        let closed = now.iter().filter(|(name, (flow, _))| !is_open(flow) && was_open(name));
        let mut ended: Vec<(Flow, Ending)> = closed.map(|(_, (flow, _))| (flow.clone(), Ending::Closed)).collect();
        for (name, (flow, misses)) in before {
            if !is_open(&flow) || now.contains_key(&name) {
                continue;
            }
            if misses + 1 < MISSES {
                now.insert(name, (flow, misses + 1));
            } else {
                ended.push((flow, Ending::Gone));
            }
        }
        ended.sort_by_key(|(flow, _)| name(flow));
        self.0 = Some(now);
        ended
    }

    /// Forgets them all: the next look begins afresh.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, end: End) -> Flow {
        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        Flow {
            protocol: 6,
            established: true,
            direct: false,
            client: at("192.0.2.9", port),
            frontend: at("10.96.0.10", 80),
            source: at("192.0.2.9", port),
            backend: at("10.244.0.5", 8080),
            service: 7,
            backend_id: 1,
            end,
            born: 0,
            seen: 0,
        }
    }

    #[test]
    fn a_flow_ends_once_by_closing_or_by_going() {
        let mut ends = FlowEnds::default();
        let mut look = |flows: &[(u16, End)]| -> Vec<(u16, Ending)> {
            let ended = ends.look(flows.iter().map(|(port, end)| flow(*port, *end)).collect());
            ended.into_iter().map(|(flow, ending)| (flow.client.port(), ending)).collect()
        };
        assert_eq!(look(&[(1, End::Open), (2, End::Closed), (3, End::HalfClosed)]), [], "nothing is known of before");
        assert_eq!(look(&[(1, End::Closed), (2, End::Closed), (3, End::HalfClosed)]), [(1, Ending::Closed)]);
        assert_eq!(look(&[(1, End::Closed), (4, End::Closed)]), [(4, Ending::Closed)], "missed once: it may be moving");
        assert_eq!(look(&[(1, End::Closed), (5, End::Open)]), [(3, Ending::Gone)]);
        assert_eq!(look(&[]), []);
        assert_eq!(look(&[(5, End::Open)]), [], "it was moving");
        assert_eq!(look(&[]), [], "what had ended before is swept without a word");
    }
}
