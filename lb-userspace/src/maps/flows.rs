//! Reads the flow tables: what `sluice flows` shows, and the entries that the sweep decides on.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{HashMap as BpfHashMap, MapData};
use lb_common::abi::{FlowKey, FlowValue, V4, V6, flow_action, flow_kind, flow_state, map_name};

use super::address::MapAddress;
use super::batch;
use super::failure::TableFailure;
use super::jiffies::Jiffies;
use super::pins::{fault, open, open_raw, removed};

/// Entries read in one system call.
const CHUNK: usize = 512;

/// One flow table.
pub(crate) struct FlowTable<A>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    map: BpfHashMap<MapData, FlowKey<A>, FlowValue<A>>,
    raw: MapData,
    name: &'static str,
}

impl<A> FlowTable<A>
where
    A: MapAddress + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    pub(crate) fn open(dir: &Path, name: &'static str) -> Result<Self, TableFailure> {
        Ok(Self { map: open(dir, name)?, raw: open_raw(dir, name)?, name })
    }

    /// Calls `each` with chunks of entries.
    pub(crate) fn walk(
        &self,
        each: impl FnMut(&[FlowKey<A>], &[FlowValue<A>]) -> ControlFlow<()>,
    ) -> Result<(), TableFailure> {
        let walked = batch::walk(self.raw.fd().as_fd(), CHUNK, each);
        walked.map_err(|source| TableFailure::Batch { map: self.name, source })
    }

    pub(crate) fn get(&self, key: &FlowKey<A>) -> Option<FlowValue<A>> {
        self.map.get(key, 0).ok()
    }

    pub(crate) fn remove(&mut self, key: &FlowKey<A>) -> Result<(), TableFailure> {
        fault(self.name)?;
        removed(self.name, self.map.remove(key))
    }
}

/// Whether the entry is the one that a client's request meets.
pub(crate) fn is_request(value_kind: u8) -> bool {
    matches!(value_kind, flow_kind::FORWARD | flow_kind::DIRECT)
}

/// The key of the other entry of the same flow, see [`lb_common::abi::flow_kind`].
pub(crate) fn reverse_key<A: MapAddress>(key: &FlowKey<A>, value: &FlowValue<A>) -> FlowKey<A> {
    let same = is_request(value.kind) && flow_action::keeps_source(value.action);
    let (src, dst, sport, dport) = if same {
        (value.src, value.dst, value.sport, value.dport)
    } else {
        (value.dst, value.src, value.dport, value.sport)
    };
    FlowKey { src, dst, sport, dport, proto: key.proto, pad: [0; 3] }
}

/// How far a connection has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Neither side has closed it.
    Open,
    /// One side has sent its last (RFC 9293: FIN).
    HalfClosed,
    /// Both have, or one has reset it.
    Closed,
}

impl End {
    /// By the bits of [`flow_state`] of both directions.
    pub(super) const fn of(request: u16, reply: u16) -> Self {
        let (either, both) = (request | reply, request & reply);
        if either & flow_state::RST != 0 || both & flow_state::FIN != 0 {
            Self::Closed
        } else if either & flow_state::FIN != 0 {
            Self::HalfClosed
        } else {
            Self::Open
        }
    }
}

/// A flow, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// Whether a reply was seen.
    pub established: bool,
    /// Not through a Service: a direct connection whose port was changed.
    pub direct: bool,
    /// The client as it sees itself.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub frontend: SocketAddr,
    /// The client as the backend sees it.
    pub source: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// Service id.
    pub service: u32,
    /// Backend id.
    pub backend_id: u32,
    /// How far both sides have closed it.
    pub end: End,
    /// When it began, in jiffies; 0: not known.
    pub born: u32,
    /// When either direction last saw a packet, in jiffies; exact to 256 of them.
    pub seen: u32,
}

/// Up to `limit` flows of both families that are wanted, established ones first.
pub fn list(pin_path: &Path, limit: usize, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, TableFailure> {
    let dir = pin_path.join("maps");
    let mut flows = Vec::new();
    for (names, established) in [(map_name::FLOWS, true), (map_name::HALF_OPEN, false)] {
        collect(&FlowTable::<V4>::open(&dir, names[0])?, established, limit, &wanted, &mut flows)?;
        collect(&FlowTable::<V6>::open(&dir, names[1])?, established, limit, &wanted, &mut flows)?;
    }
    Ok(flows)
}

fn collect<A>(
    table: &FlowTable<A>,
    established: bool,
    limit: usize,
    wanted: &impl Fn(&Flow) -> bool,
    into: &mut Vec<Flow>,
) -> Result<(), TableFailure>
where
    A: MapAddress + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    table.walk(|keys, values| {
        for (key, value) in keys.iter().zip(values).filter(|(_, value)| is_request(value.kind)) {
            if into.len() >= limit {
                return ControlFlow::Break(());
            }
            let reverse = table.get(&reverse_key(key, value));
            let flow = Flow {
                protocol: key.proto,
                established,
                direct: value.kind == flow_kind::DIRECT,
                client: SocketAddr::new(key.src.ip(), key.sport.get()),
                frontend: SocketAddr::new(key.dst.ip(), key.dport.get()),
                source: SocketAddr::new(value.src.ip(), value.sport.get()),
                backend: SocketAddr::new(value.dst.ip(), value.dport.get()),
                service: value.service,
                backend_id: value.backend,
                end: End::of(value.state, reverse.map_or(0, |reverse| reverse.state)),
                seen: reverse.map_or(value.seen, |reverse| Jiffies::later(value.seen, reverse.seen)),
                born: value.born,
            };
            if wanted(&flow) {
                into.push(flow);
            }
        }
        ControlFlow::Continue(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_by_two_fins_or_one_reset() {
        let (fin, rst, replied) = (flow_state::FIN, flow_state::RST, flow_state::REPLIED);
        assert_eq!(End::of(replied, 0), End::Open);
        assert_eq!(End::of(fin, replied), End::HalfClosed);
        assert_eq!(End::of(0, fin), End::HalfClosed);
        assert_eq!(End::of(fin | replied, fin), End::Closed);
        assert_eq!(End::of(0, rst), End::Closed);
    }
}
