//! What `sluice status` says, as its JSON has it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::reconcile::agent_report::AgentReport;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Sluice does not do its work, or will not once something changes.
    Error,
    /// A person should look at it.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) message: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// Nothing is wrong with Sluice on this node.
    pub(super) healthy: bool,
    /// What is wrong, or should be looked at.
    pub(super) problems: Vec<Problem>,
    /// The first full state of the newest agent is in the kernel.
    pub(super) synced: bool,
    /// Version of the maps' layouts.
    pub(super) abi: u32,
    pub(super) agent: Agent,
    /// Service ports with something written.
    pub(super) services: usize,
    pub(super) backends: usize,
    pub(super) frontends: usize,
    /// Counters of the data path by name.
    pub(super) counters: BTreeMap<&'static str, u64>,
    pub(super) maps: Vec<MapRow>,
    /// The agent's own report; null: not written yet, or by another version.
    pub(super) report: Option<AgentReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct Agent {
    /// In its own namespace of processes.
    pub(super) pid: u32,
    /// Its random number.
    pub(super) owner: String,
    /// It runs: it holds the lock beside the pins.
    pub(super) alive: bool,
    pub(super) started_ns: u64,
    pub(super) synced_ns: u64,
    pub(super) updated_ns: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct MapRow {
    pub(super) map: &'static str,
    pub(super) used: usize,
    pub(super) capacity: u32,
}
