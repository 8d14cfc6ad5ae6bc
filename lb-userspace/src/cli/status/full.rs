//! `sluice status -o wide`: all that is known, for people.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;

use super::state::Status;
use crate::cli::list::amount;
use crate::cli::output;
use crate::devices::device_report::Repairs;
use crate::reconcile::agent_report::AgentReport;

pub(super) fn text(status: &Status) -> String {
    let mut text = String::new();
    match write_text(&mut text, status) {
        Ok(()) => text,
        Err(error) => error.to_string(),
    }
}

fn write_text(text: &mut String, status: &Status) -> std::fmt::Result {
    for problem in &status.problems {
        writeln!(text, "Problem:   {}", problem.message)?;
    }
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

/// Node, source, sockets, devices, features.
fn write_agent(text: &mut String, report: &AgentReport) -> std::fmt::Result {
    let AgentReport { node_name, source, attach, sockets, ports_taken, forward, host_ports, .. } = report;
    writeln!(text, "Node:      {node_name}")?;
    let connected = if source.connected { "" } else { " (cannot be read now)" };
    writeln!(text, "Source:    {} {}{connected}", source.kind, source.from)?;
    if let Some(error) = &source.last_error {
        let since = source.failing_since_ns.map(|ns| format!(" for {}", amount::ago(ns))).unwrap_or_default();
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
    if !host_ports.is_empty() {
        writeln!(text, "Host ports: {host_ports}")?;
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
