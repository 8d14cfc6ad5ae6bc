//! Sluice's own families, put together when somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lb_common::abi::{Counter, map_name};
use prometheus::proto::MetricFamily;

use super::metric_family::{Families, count, total};
use super::traffic;
use crate::check::finding::Level;
use crate::devices::{AttachReport, Role};
use crate::maps::TableFailure;
use crate::maps::observe::{self, Fill};
use crate::model::desired::Refusal;
use crate::model::family::PerFamily;
use crate::model::reason::Reason;

/// Walking a full flow table takes a moment: its fill is counted at most this often.
const FILLS_EVERY: Duration = Duration::from_secs(15);

/// A family by device has no more than this part of all rows.
const PARTS: usize = 4;
/// Rows that say what was left out.
const RESERVE: usize = 16;

/// Facts about the agent that do not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its version.
    pub version: &'static str,
    /// Name of the node.
    pub node: String,
    /// `manifests` or `kube`.
    pub source: &'static str,
}

/// What the agent knows of itself at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Devices, hooks, features.
    pub attach: AttachReport,
    /// Refusals by kind and reason.
    pub refusals: BTreeMap<(&'static str, Reason), usize>,
    /// The worst of each of the agent's own checks.
    pub checks: BTreeMap<String, Level>,
    /// Whether the source can be read now.
    pub source_connected: bool,
    /// Whether the first full state is in the kernel.
    pub synced: bool,
    /// Slots in use.
    pub slots: PerFamily<usize>,
    /// Services in the maps.
    pub services: usize,
    /// Writes into maps since the start.
    pub map_writes: u64,
    /// Services that could not be written, attempts since the start.
    pub writes_refused: u64,
    /// Sockets of dead backends moved to another one since the start.
    pub sockets_moved: u64,
    /// Sockets of dead backends destroyed since the start.
    pub sockets_destroyed: u64,
    /// Backends ejected since the start, because they failed far more often than their fellows.
    pub ejections: u64,
    /// Backends that are ejected, or on probation.
    pub backends_resting: usize,
    /// Backends that leave connections unanswered.
    pub backends_silent: usize,
    /// Counts of a backend's open connections that were corrected since the start.
    pub recounted: u64,
    /// What the sweeps of the flow tables found.
    pub flows: FlowUse,
}

/// The flow tables over time, for an estimate of what the kernel evicted: flows that were created, are not there any
/// more, and were not taken out by a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowUse {
    created_at_start: Option<u64>,
    /// Taken out by sweeps.
    pub removed: u64,
    /// Evicted, about.
    pub evicted: u64,
}

impl FlowUse {
    /// A sweep has ended. `created`: flows created since the maps exist.
    pub fn swept(&mut self, created: u64, removed: u64, live: u64) {
        self.removed += removed;
        let base = *self.created_at_start.get_or_insert(created.saturating_sub(live + removed));
        let gone = created.saturating_sub(base).saturating_sub(self.removed).saturating_sub(live);
        self.evicted = self.evicted.max(gone);
    }
}

impl Snapshot {
    /// Counts refusals anew.
    pub fn count_refusals<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal>) {
        self.refusals.clear();
        for refusal in refusals {
            *self.refusals.entry((refusal.kind, refusal.reason)).or_default() += 1;
        }
    }
}

/// Where the rest is read.
#[derive(Debug)]
pub(super) struct Collector {
    pin_path: PathBuf,
    info: AgentInfo,
    limit: usize,
    fills: Mutex<Option<(Instant, Vec<Fill>)>>,
}

fn none<'a>() -> Vec<(&'a str, String)> {
    Vec::new()
}

impl Collector {
    pub(super) fn new(pin_path: PathBuf, info: AgentInfo, limit: usize) -> Self {
        Self { pin_path, info, limit, fills: Mutex::default() }
    }

    pub(super) fn flows_created(&self) -> Option<u64> {
        let counters = observe::counters(&self.pin_path).ok()?;
        let created = Counter::NewFlow.name();
        counters.iter().find(|(name, _)| *name == created).map(|(_, value)| *value)
    }

    /// `taken`: rows that others have already.
    pub(super) fn families(&self, snapshot: &Snapshot, taken: usize) -> Vec<MetricFamily> {
        let mut families = Families::new(self.limit / PARTS);
        self.agent(snapshot, &mut families);
        self.counters(snapshot, &mut families);
        self.maps(snapshot, &mut families);
        devices(&snapshot.attach, &mut families);
        let room = self.limit.saturating_sub(taken + families.rows() + RESERVE);
        if let Err(failure) = traffic::families(&self.pin_path, room, &mut families) {
            tracing::warn!(%failure, "the traffic of Services cannot be read");
        }
        families.finish()
    }

    fn agent(&self, snapshot: &Snapshot, families: &mut Families) {
        let AgentInfo { version, node, source } = &self.info;
        let info = vec![
            ("abi", lb_common::abi::ABI_VERSION.to_string()),
            ("node", node.clone()),
            ("source", (*source).to_owned()),
            ("version", (*version).to_owned()),
        ];
        families.gauges("sluice_agent_info", "The agent; always 1", [(info, 1.0)]);
        let flag = |is: bool| f64::from(u8::from(is));
        families.gauges(
            "sluice_source_connected",
            "Whether the source of Services can be read; while not, the last known state stays in force",
            [(none(), flag(snapshot.source_connected))],
        );
        families.gauges(
            "sluice_synced",
            "Whether the first full state of this agent is in the kernel",
            [(none(), flag(snapshot.synced))],
        );
        families.gauges("sluice_services", "Services in the maps", [(none(), count(snapshot.services))]);
        families.counters(
            "sluice_sockets_moved_total",
            "Connected UDP sockets moved to another backend because theirs went away",
            [(none(), total(snapshot.sockets_moved))],
        );
        families.counters(
            "sluice_sockets_destroyed_total",
            "Connected sockets destroyed because their backend went away",
            [(none(), total(snapshot.sockets_destroyed))],
        );
        families.counters("sluice_map_writes_total", "Writes into maps", [(none(), total(snapshot.map_writes))]);
        families.counters(
            "sluice_refused_writes_total",
            "Times that a Service could not be written and stayed as it was",
            [(none(), total(snapshot.writes_refused))],
        );
        families.counters(
            "sluice_backend_ejections_total",
            "Backends ejected because they refused or reset far more connections than their fellows",
            [(none(), total(snapshot.ejections))],
        );
        families.gauges(
            "sluice_backends_ejected",
            "Backends that are ejected now, or on probation",
            [(none(), count(snapshot.backends_resting))],
        );
        families.gauges(
            "sluice_backends_silent",
            "Backends that leave connections unanswered now",
            [(none(), count(snapshot.backends_silent))],
        );
        let refusals = snapshot.refusals.iter().map(|((kind, reason), number)| {
            (vec![("kind", (*kind).to_owned()), ("reason", reason.name().to_owned())], count(*number))
        });
        let checks = snapshot.checks.iter().map(|(check, level)| (vec![("check", check.clone())], level.number()));
        families.gauges(
            "sluice_check",
            "What the agent's own checks found last: 0 in order, 1 not looked at, 2 a warning, 3 a problem",
            checks,
        );
        families.gauges("sluice_refusals", "Parts of objects that are not served, by kind and reason", refusals);
    }

    fn counters(&self, snapshot: &Snapshot, families: &mut Families) {
        let counters = match observe::counters(&self.pin_path) {
            Ok(counters) => counters,
            Err(failure) => {
                tracing::warn!(%failure, "the counters cannot be read");
                return;
            }
        };
        let reasons = |prefix: &'static str| {
            let of_prefix = counters.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)));
            of_prefix.map(|(reason, value)| (vec![("reason", reason.to_owned())], total(value)))
        };
        families.counters("sluice_drops_total", "Packets dropped by the data path, by reason", reasons("drop_"));
        families.counters("sluice_rejects_total", "Packets answered with a refusal, by reason", reasons("reject_"));
        let others = counters.iter().filter(|(name, _)| !name.starts_with("drop_") && !name.starts_with("reject_"));
        families.counters(
            "sluice_datapath_events_total",
            "What else the data path counts, by name",
            others.map(|(name, value)| (vec![("event", (*name).to_owned())], total(*value))),
        );
        let failed =
            counters.iter().find(|(name, _)| *name == Counter::DropFlowInsert.name()).map_or(0, |(_, value)| *value);
        families.counters(
            "sluice_flow_insert_failures_total",
            "Flows that the flow tables did not take",
            [(none(), total(failed))],
        );
        families.counters(
            "sluice_flows_expired_total",
            "Flows taken out because they were over or idle",
            [(none(), total(snapshot.flows.removed))],
        );
        families.counters(
            "sluice_flow_evictions_estimated_total",
            "Flows that the kernel evicted for newer ones since the agent's start, worked out after each sweep",
            [(none(), total(snapshot.flows.evicted))],
        );
        families.counters(
            "sluice_open_connection_corrections_total",
            "Counts of a backend's open connections that the agent has corrected since its start",
            [(none(), total(snapshot.recounted))],
        );
    }

    fn maps(&self, snapshot: &Snapshot, families: &mut Families) {
        let fills = match self.fills().and_then(|fills| self.with_slots(fills, snapshot)) {
            Ok(fills) => fills,
            Err(failure) => {
                tracing::warn!(%failure, "the fill of the maps cannot be read");
                return;
            }
        };
        let map = |fill: &Fill| vec![("map", fill.map.to_owned())];
        families.gauges(
            "sluice_map_entries",
            "Entries in use, of maps that can run full; a flow has two",
            fills.iter().map(|fill| (map(fill), count(fill.used))),
        );
        families.gauges(
            "sluice_map_capacity",
            "Entries that a map can hold",
            fills.iter().map(|fill| (map(fill), f64::from(fill.capacity))),
        );
    }

    fn with_slots(&self, mut fills: Vec<Fill>, snapshot: &Snapshot) -> Result<Vec<Fill>, TableFailure> {
        for (map, used) in map_name::SLOTS.into_iter().zip([snapshot.slots.v4, snapshot.slots.v6]) {
            let capacity = observe::capacity(&self.pin_path.join("maps"), map)?;
            fills.push(Fill { map, used, capacity });
        }
        Ok(fills)
    }

    fn fills(&self) -> Result<Vec<Fill>, TableFailure> {
        let mut cached = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, fills)) = &*cached
            && at.elapsed() < FILLS_EVERY
        {
            return Ok(fills.clone());
        }
        let fills = observe::fills(&self.pin_path)?;
        *cached = Some((Instant::now(), fills.clone()));
        Ok(fills)
    }
}

/// Uplinks first: they are the last that a limit should leave out.
fn devices(attach: &AttachReport, families: &mut Families) {
    let mut devices: Vec<_> = attach.devices.iter().filter(|device| device.role != Role::Ignored).collect();
    devices.sort_by_key(|device| device.role != Role::Uplink);
    let attached = devices.iter().flat_map(|device| {
        device.hooks.iter().map(|hook| {
            let labels = vec![
                ("device", device.name.clone()),
                ("hook", hook.hook.to_string()),
                ("how", hook.how.to_string()),
                ("role", device.role.name().to_owned()),
            ];
            (labels, 1.0)
        })
    });
    families.gauges("sluice_device_hooks", "Programs attached, by device and hook; always 1", attached);
    let failed = devices.iter().filter(|device| !device.errors.is_empty());
    families.gauges(
        "sluice_device_errors",
        "Failures to attach, by device",
        failed.map(|device| (vec![("device", device.name.clone())], count(device.errors.len()))),
    );
    let by_role = [Role::Pod, Role::Uplink].map(|role| {
        let number = devices.iter().filter(|device| device.role == role && !device.hooks.is_empty()).count();
        (vec![("role", role.name().to_owned())], count(number))
    });
    families.gauges("sluice_devices_attached", "Devices with programs, by role", by_role);
    let forwarding = [("IPv4", attach.forwarding.v4), ("IPv6", attach.forwarding.v6)];
    families.gauges(
        "sluice_node_forwarding",
        "Whether the node forwards packets to Pods: 1 it does, 0 not",
        forwarding.map(|(family, on)| (vec![("family", family.to_owned())], f64::from(u8::from(on)))),
    );
    families.gauges(
        "sluice_devices_not_forwarding",
        "Devices from which IPv4 packets are not forwarded, though the node forwards",
        [(none(), count(attach.forwarding.devices_off.len()))],
    );
    families.counters(
        "sluice_repairs_total",
        "Programs and entries that were gone from the kernel, or another's, and were put back",
        [(none(), total(attach.repairs.count))],
    );
    families.gauges(
        "sluice_features",
        "Features of the kernel: 1 found, 0 not",
        attach.features.iter().map(|f| (vec![("feature", f.name.to_string())], f64::from(u8::from(f.found)))),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evictions_are_what_neither_lives_nor_was_swept() {
        let mut flows = FlowUse::default();
        flows.swept(1000, 0, 100);
        assert_eq!(flows.evicted, 0, "flows from before the agent's start are unknown");
        flows.swept(1500, 200, 300);
        assert_eq!(flows.evicted, 100);
        // A flow created while the sweep walks may make it look smaller; a counter does not go back.
        flows.swept(1500, 0, 310);
        assert_eq!((flows.evicted, flows.removed), (100, 200));
    }
}
