//! The endpoints of one service port, merged from all EndpointSlices of its Service.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use super::desired::{Family, Protocol};
use super::record::SliceRecord;
use super::topology::Endpoint;

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
) -> Vec<Endpoint<'a>> {
    let rank = |e: &Endpoint<'_>| (!e.terminating, e.ready, e.serving, e.local);
    let mut merged: BTreeMap<SocketAddr, Endpoint<'a>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.family == Some(family)) {
        for port in slice.ports.iter().filter(|port| port.protocol == protocol && &*port.name == port_name) {
            for endpoint in &slice.endpoints {
                let endpoint = Endpoint {
                    addr: SocketAddr::new(endpoint.ip, port.port),
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                    local: endpoint.node.as_deref() == Some(node),
                    hints: endpoint.hints.as_deref(),
                };
                match merged.entry(endpoint.addr) {
                    Entry::Vacant(free) => {
                        free.insert(endpoint);
                    }
                    Entry::Occupied(mut taken) if rank(&endpoint) > rank(taken.get()) => {
                        taken.insert(endpoint);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    merged.into_values().collect()
}
