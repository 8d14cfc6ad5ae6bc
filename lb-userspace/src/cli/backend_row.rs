//! A backend and what was counted for it, as `sluice services` and `sluice backends` have it in JSON.

use lb_common::abi::StatsValue;
use serde::Serialize;

use crate::maps::dump;
use crate::maps::traffic::Traffic;
use crate::model::desired::Family;
use crate::plan::BackendEntry;

/// One backend.
#[derive(Debug, Serialize)]
pub(super) struct BackendRow {
    /// `address:port`.
    pub(super) address: String,
    /// Backend id.
    pub(super) id: u32,
    /// Generation of the id.
    pub(super) generation: u32,
    /// Its state.
    pub(super) flags: Vec<&'static str>,
    /// Share of new connections against the others'.
    pub(super) weight: u16,
    /// What was counted for it; none: its id is beyond the counters.
    pub(super) traffic: Option<TrafficRow>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct TrafficRow {
    /// New connections; of UDP: flows.
    pub(super) connections: u64,
    /// Packets towards the backend.
    pub(super) packets: u64,
    /// Bytes of them, link headers not counted.
    pub(super) bytes: u64,
    /// Packets from the backend.
    pub(super) reply_packets: u64,
    /// Bytes of them.
    pub(super) reply_bytes: u64,
    /// Connections that were not answered, or not yet.
    pub(super) unanswered: u64,
    /// Connections and datagrams that were refused by the backend.
    pub(super) refused: u64,
}

impl From<StatsValue> for TrafficRow {
    fn from(counted: StatsValue) -> Self {
        let StatsValue { packets, bytes, reply_packets, reply_bytes, connections, refused, .. } = counted;
        Self { connections, packets, bytes, reply_packets, reply_bytes, unanswered: counted.waiting(), refused }
    }
}

impl BackendRow {
    pub(super) fn new(family: Family, id: u32, entry: &BackendEntry, traffic: &Traffic) -> Self {
        Self {
            address: entry.addr.to_string(),
            id,
            generation: entry.generation,
            flags: dump::backend_flags(entry.flags),
            weight: entry.weight,
            traffic: traffic.backend(family, id).map(Into::into),
        }
    }
}
