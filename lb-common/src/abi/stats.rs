//! `STATS4`/`STATS6`: per-CPU array, index = backend id. What went to a backend and came back.

/// Traffic of one backend on one processor. Ids beyond the map are not counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsValue {
    /// Packets towards the backend.
    pub packets: u64,
    /// Bytes of them, from the network header on.
    pub bytes: u64,
    /// Packets from the backend.
    pub reply_packets: u64,
    /// Bytes of them, from the network header on.
    pub reply_bytes: u64,
    /// New flows.
    pub connections: u64,
}
