//! The endpoints of one service port, merged from all EndpointSlices of its Service.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::desired::{Family, Protocol};
use super::record::SliceRecord;
use super::topology::Endpoint;

/// One endpoint of a service port, and the slice that it is taken from.
#[derive(Clone, Copy, Debug)]
pub struct Sourced<'a> {
    /// The endpoint.
    pub endpoint: Endpoint<'a>,
    /// The slice.
    pub slice: &'a SliceRecord,
}

/// What a slice has for a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SliceUse {
    /// Endpoints.
    Used,
    /// Nothing: it is of an address type that is not used, or marked as headless.
    NotUsed,
    /// Nothing: it is of the other address family.
    OtherFamily,
    /// Nothing: it has no port of this name.
    NoSuchPort,
    /// Nothing: its port of this name has another protocol.
    OtherProtocol,
    /// Nothing: it has the port and no endpoint.
    Empty,
}

/// What a slice has for a service port.
pub fn slice_use(slice: &SliceRecord, port_name: &str, protocol: Protocol, family: Family) -> SliceUse {
    match slice.family {
        None => return SliceUse::NotUsed,
        Some(other) if other != family => return SliceUse::OtherFamily,
        Some(_) => {}
    }
    let mut named = slice.ports.iter().filter(|port| &*port.name == port_name).peekable();
    if named.peek().is_none() {
        SliceUse::NoSuchPort
    } else if named.all(|port| port.protocol != protocol) {
        SliceUse::OtherProtocol
    } else if slice.endpoints.is_empty() {
        SliceUse::Empty
    } else {
        SliceUse::Used
    }
}

/// The endpoints of one service port and family, over all slices of its Service, one for each address and port.
///
/// Slices overlap while the API moves endpoints between them. One that is not terminating wins; beyond that the order of
/// preference is Sluice's own, for a result that does not depend on the order of slices: ready, serving, local.
pub fn merge<'a>(
    slices: &[&'a SliceRecord],
    port_name: &str,
    protocol: Protocol,
    family: Family,
    node: &str,
) -> Vec<Sourced<'a>> {
    let rank = |e: &Endpoint<'_>| (!e.terminating, e.ready, e.serving, e.local);
    let mut merged: BTreeMap<SocketAddr, Sourced<'a>> = BTreeMap::new();
    let used = slices.iter().filter(|slice| slice_use(slice, port_name, protocol, family) == SliceUse::Used);
    for &slice in used {
        for port in slice.ports.iter().filter(|port| port.protocol == protocol && &*port.name == port_name) {
            for endpoint in &slice.endpoints {
                let endpoint = Endpoint {
                    addr: SocketAddr::new(endpoint.ip, port.port),
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                    local: endpoint.node.as_deref() == Some(node),
                    pod: endpoint.pod,
                    hints: endpoint.hints.as_deref(),
                };
                match merged.entry(endpoint.addr) {
                    Entry::Vacant(free) => {
                        free.insert(Sourced { endpoint, slice });
                    }
                    Entry::Occupied(mut taken) if rank(&endpoint) > rank(&taken.get().endpoint) => {
                        taken.insert(Sourced { endpoint, slice });
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    merged.into_values().collect()
}
