//! What is wrong with Sluice on a node, the worst first.

use lb_common::abi::table::Kind;
use lb_common::abi::tables;

use super::state::{Problem, Severity, Status};
use crate::check::finding::Finding;
use crate::cli::list::amount;
use crate::reconcile::agent_report::AgentReport;

/// A map is nearly full from here on, in percent.
const NEARLY_FULL: usize = 90;

/// Everything that is wrong.
pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |severity, message: String| found.push(Problem { severity, message });
    let mut error = |message: String| add(Severity::Error, message);
    if !status.agent.alive {
        error("the agent is not running: what is in the kernel goes on working, changes do not arrive".to_owned());
    } else if !status.synced {
        error("the first full state is not in the kernel yet".to_owned());
    }
    match &status.report {
        None if status.agent.alive => error("the agent's report cannot be read: use its version".to_owned()),
        None => {}
        Some(report) => errors(report, status.agent.alive, &mut error),
    }
    if let Some(report) = &status.report {
        let mut warning = |message: String| add(Severity::Warning, message);
        let AgentReport { attach, ports_taken, .. } = report;
        let lines = attach.warnings.iter().chain(&attach.not_served).chain(ports_taken);
        lines.for_each(|line| warning(line.clone()));
        for Finding { check, found, todo, .. } in &report.checks {
            warning(format!("{check}: {found}; do: {}", todo.as_deref().unwrap_or("see `sluice check`")));
        }
        if let Some(first) = report.refusals.first() {
            let count = report.refusals.len() + report.refusals_omitted;
            warning(format!("{count} refused, such as {} {}: {}", first.kind, first.object, first.message));
        }
    }
    for row in &status.maps {
        let table = tables::all().find(|table| table.maps.iter().any(|map| map.name == row.map));
        let may_be_full = table.is_some_and(|table| table.kind == Kind::LruHash);
        let capacity = usize::try_from(row.capacity).unwrap_or(usize::MAX);
        if !may_be_full && capacity > 0 && row.used * 100 >= capacity * NEARLY_FULL {
            add(Severity::Warning, format!("map {} is nearly full: {} of {}", row.map, row.used, row.capacity));
        }
    }
    found
}

/// What an agent says of itself.
fn errors(report: &AgentReport, alive: bool, error: &mut impl FnMut(String)) {
    let AgentReport { source, attach, sockets, .. } = report;
    if alive && !source.connected {
        let since = source.failing_since_ns.map(|ns| format!(" for {}", amount::ago(ns))).unwrap_or_default();
        let why = source.last_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        error(format!("{} {} cannot be read{since}{why}", source.kind, source.from));
    }
    for device in &attach.devices {
        device.errors.iter().for_each(|why| error(format!("device {}: {why}", device.name)));
    }
    sockets.errors.iter().for_each(|why| error(format!("sockets: {why}")));
}
