//! `sluice status`: is the first full state in the kernel, is the agent alive, where is what attached, what is refused.
//!
//! JSON: `{synced, abi, agent: {pid, owner, alive, started_ns, synced_ns, updated_ns}, services, backends, frontends, counters:
//! {name: value}, maps: [{map, used, capacity}], report: {version, node_name, source: {kind, from,
//! connected, last_error, failing_since_ns}, attach: {devices, features,
//! map_sizes, not_served, warnings, forwarding: {v4, v6, devices_off}, repairs: {count, last, last_ns}}, sockets: {mode,
//! cgroup, hooks, notes, errors}, ports_taken,
//! forward: {mode, note}, refusals: [{kind, object, reason, message}], refusals_omitted}}`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use lb_common::abi::table::Table;
use lb_common::abi::{StatusValue, tables};
use serde::Serialize;

use super::output::{self, Format};
use crate::devices::device_report::Repairs;
use crate::load::writer_lock::has_writer;
use crate::maps::kernel::KernelTables;
use crate::maps::{observe, observe::Fill};
use crate::reconcile::agent_report::AgentReport;

#[derive(Debug, Serialize)]
struct Status {
    /// The first full state of the newest agent is in the kernel.
    synced: bool,
    /// Version of the maps' layouts.
    abi: u32,
    agent: Agent,
    /// Service ports with something written.
    services: usize,
    backends: usize,
    frontends: usize,
    /// Counters of the data path by name.
    counters: BTreeMap<&'static str, u64>,
    maps: Vec<MapRow>,
    /// The agent's own report; null: not written yet, or by another version.
    report: Option<AgentReport>,
}

#[derive(Debug, Serialize)]
struct Agent {
    /// In its own namespace of processes.
    pid: u32,
    /// Its random number.
    owner: String,
    /// It runs: it holds the lock beside the pins.
    alive: bool,
    started_ns: u64,
    synced_ns: u64,
    updated_ns: u64,
}

#[derive(Debug, Serialize)]
struct MapRow {
    map: &'static str,
    used: usize,
    capacity: u32,
}

/// Whether the agent that wrote this runs, and is of a version that takes no lock.
pub(super) fn older_version_runs(&StatusValue { pid, owner, .. }: &StatusValue) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let dead =
        state.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')));
    owner == 0 && pid != 0 && !dead && name.is_ok_and(|name| name.trim_end() == "sluice")
}

pub(super) fn print(pin_path: &Path, format: Format) -> anyhow::Result<()> {
    output::print(&gather(pin_path)?, format, text)
}

fn gather(pin_path: &Path) -> anyhow::Result<Status> {
    let tables = KernelTables::open(pin_path)?;
    let state = tables.status()?;
    let fills = observe::fills(pin_path)?;
    let used = |table: &Table| {
        let of_table = fills.iter().filter(|fill| table.maps.iter().any(|map| map.name == fill.map));
        of_table.map(|fill| fill.used).sum()
    };
    Ok(Status {
        synced: state.synced_ns != 0,
        abi: state.abi,
        agent: Agent {
            pid: state.pid,
            owner: format!("{:016x}", state.owner),
            alive: has_writer(pin_path) || older_version_runs(&state),
            started_ns: state.started_ns,
            synced_ns: state.synced_ns,
            updated_ns: state.updated_ns,
        },
        services: used(&tables::NAMES),
        backends: used(&tables::BACKENDS),
        frontends: observe::frontends(pin_path)?,
        counters: observe::counters(pin_path)?.into_iter().collect(),
        maps: fills.iter().map(|&Fill { map, used, capacity }| MapRow { map, used, capacity }).collect(),
        report: serde_json::from_str(&tables.report()?).ok(),
    })
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    match write_text(&mut text, status) {
        Ok(()) => text,
        Err(error) => error.to_string(),
    }
}

fn write_text(text: &mut String, status: &Status) -> std::fmt::Result {
    let agent = if status.agent.alive { "running" } else { "not running; what is in the kernel goes on working" };
    let synced = if status.synced { "yes" } else { "no: the first full state is not in the kernel yet" };
    writeln!(text, "Agent:     {agent} (pid {})", status.agent.pid)?;
    writeln!(text, "Synced:    {synced}")?;
    let (services, frontends, backends) = (status.services, status.frontends, status.backends);
    writeln!(text, "Serves:    {services} Service ports, {frontends} frontends, {backends} backends")?;
    match &status.report {
        Some(report) => write_agent(text, report)?,
        None => writeln!(text, "Report:    none yet, or it cannot be read: use the version of the agent")?,
    }
    let mut maps = output::table(&["MAP", "USED", "CAPACITY"]);
    for row in &status.maps {
        maps.add_row([row.map.to_owned(), row.used.to_string(), row.capacity.to_string()]);
    }
    writeln!(text, "\n{maps}")?;
    let mut counters = output::table(&["COUNTER", "VALUE"]);
    for (name, value) in &status.counters {
        counters.add_row([(*name).to_owned(), value.to_string()]);
    }
    writeln!(text, "\n{counters}")?;
    status.report.as_ref().map_or(Ok(()), |report| write_refusals(text, report))
}

/// How long ago that was, for people.
fn humantime(ns: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.saturating_sub(Duration::from_nanos(ns)).as_secs() {
        secs @ 0..=119 => format!("{secs} s"),
        secs @ 120..=7199 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3600),
    }
}

/// Node, source, sockets, devices, features.
fn write_agent(text: &mut String, report: &AgentReport) -> std::fmt::Result {
    let AgentReport { node_name, source, attach, sockets, ports_taken, forward, .. } = report;
    writeln!(text, "Node:      {node_name}")?;
    let connected = if source.connected { "" } else { " (cannot be read now)" };
    writeln!(text, "Source:    {} {}{connected}", source.kind, source.from)?;
    if let Some(error) = &source.last_error {
        let since = source.failing_since_ns.map(|ns| format!(" for {}", humantime(ns))).unwrap_or_default();
        writeln!(text, "           fails{since}: {error}")?;
    }
    if !sockets.hooks.is_empty() {
        let cgroup = sockets.cgroup.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string());
        writeln!(text, "Sockets:   {}, {} hooks at {cgroup}", sockets.mode.name(), sockets.hooks.len())?;
    }
    for line in sockets.notes.iter().chain(&sockets.errors) {
        writeln!(text, "Sockets:   {line}")?;
    }
    if let Some(note) = &forward.note {
        writeln!(text, "Forward:   {}: {note}", forward.mode)?;
    }
    for line in ports_taken {
        writeln!(text, "Port taken: {line}")?;
    }
    for line in &attach.not_served {
        writeln!(text, "Not served: {line}")?;
    }
    for line in &attach.warnings {
        writeln!(text, "Warning:   {line}")?;
    }
    if let repairs @ Repairs { count: 1.., .. } = &attach.repairs {
        let at = i64::try_from(repairs.last_ns).ok().and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
        let at = at.map_or_else(String::new, |at| format!(" at {at:.0}"));
        writeln!(
            text,
            "Put back:  {} since the agent's start; the last{at}: {}",
            repairs.count,
            repairs.last.join(", ")
        )?;
    }
    let mut devices = output::table(&["DEVICE", "KIND", "ROLE", "HOOKS", "WHY"]);
    for device in &attach.devices {
        let hooks = device.hooks.iter().map(|hook| format!("{}/{}", hook.hook, hook.how));
        let errors = device.errors.iter().map(|error| format!("ERROR {error}"));
        let hooks: Vec<String> = hooks.chain(errors).collect();
        devices.add_row([&device.name, &device.kind, device.role.name(), &hooks.join(" "), &device.why]);
    }
    writeln!(text, "\n{devices}")?;
    if attach.devices_left_out > 0 {
        writeln!(text, "and {} more", attach.devices_left_out)?;
    }
    let mut features = output::table(&["FEATURE", "FOUND", "USED"]);
    for feature in &attach.features {
        features.add_row([&*feature.name, if feature.found { "yes" } else { "no" }, &feature.used]);
    }
    writeln!(text, "\n{features}")
}

fn write_refusals(text: &mut String, report: &AgentReport) -> std::fmt::Result {
    let mut refusals = output::table(&["REFUSED", "OBJECT", "REASON", "MESSAGE"]);
    for row in &report.refusals {
        refusals.add_row([&row.kind, &row.object, &row.reason, &row.message]);
    }
    if !refusals.is_empty() {
        writeln!(text, "\n{refusals}")?;
    }
    match report.refusals_omitted {
        0 => Ok(()),
        more => writeln!(text, "and {more} more"),
    }
}
