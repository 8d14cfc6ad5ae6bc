//! `sluice status`: ten lines, problems first.

use std::fmt::Write;

use super::state::{Severity, Status};
use crate::cli::list::{Width, amount};
use crate::devices::Role;
use crate::reconcile::agent_report::AgentReport;

/// Lines for problems: with the other seven they are ten.
const PROBLEMS: usize = 3;
/// Counters that are named.
const COUNTERS: usize = 3;

pub(super) fn text(status: &Status, width: Width) -> String {
    let lines = lines(status);
    let cut = |line: &String| match width {
        Width::Columns(room) if line.chars().count() > room => {
            line.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.clone(),
    };
    lines.iter().map(cut).collect::<Vec<String>>().join("\n")
}

fn lines(status: &Status) -> Vec<String> {
    let of = |severity| status.problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut lines = vec![match (errors, warnings) {
        (0, 0) => "Health:   healthy".to_owned(),
        (0, warnings) => format!("Health:   healthy, {}", many(warnings, "warning")),
        (errors, 0) => format!("Health:   NOT HEALTHY: {}", many(errors, "problem")),
        (errors, warnings) => {
            format!("Health:   NOT HEALTHY: {}, {}", many(errors, "problem"), many(warnings, "warning"))
        }
    }];
    let all = errors + warnings;
    let named = if all > PROBLEMS { PROBLEMS - 1 } else { all };
    for problem in status.problems.iter().take(named) {
        let word = if problem.severity == Severity::Error { "Problem:" } else { "Warning:" };
        lines.push(format!("{word}  {}", problem.message));
    }
    if all > named {
        lines.push(format!("          and {} more: sluice status -o wide", all - named));
    }
    let running = if status.agent.alive { "running" } else { "not running" };
    let since = if status.agent.alive && status.agent.started_ns > 0 {
        format!(" for {}", amount::ago(status.agent.started_ns))
    } else {
        String::new()
    };
    lines.push(format!("Agent:    {running}{since}, pid {}{}", status.agent.pid, version(status.report.as_ref())));
    lines.extend(status.report.as_ref().map(source));
    let (services, frontends, backends) = (status.services, status.frontends, status.backends);
    lines.push(format!(
        "Serves:   {}, {}, {}",
        many(services, "Service port"),
        many(frontends, "frontend"),
        many(backends, "backend")
    ));
    lines.extend(status.report.as_ref().map(devices));
    lines.push(flows(status));
    lines.push(counters(status));
    lines
}

fn version(report: Option<&AgentReport>) -> String {
    report.map_or_else(String::new, |report| format!(", version {}, node {}", report.version, report.node_name))
}

fn source(report: &AgentReport) -> String {
    let state = if report.source.connected { "" } else { " (cannot be read now)" };
    format!("Source:   {} {}{state}", report.source.kind, report.source.from)
}

fn devices(report: &AgentReport) -> String {
    let of = |role| report.attach.devices.iter().filter(|device| device.role == role).count();
    let (uplinks, pods, left_out) = (of(Role::Uplink), of(Role::Pod), report.attach.devices_left_out);
    let more = if left_out > 0 { format!(", {left_out} not reported") } else { String::new() };
    let sockets = &report.sockets;
    format!(
        "Devices:  {uplinks} to the outside, {pods} to Pods{more}; sockets: {}, {} hooks",
        sockets.mode.name(),
        sockets.hooks.len()
    )
}

/// Two entries are one flow.
fn flows(status: &Status) -> String {
    let of = |names: [&str; 2]| {
        let rows = status.maps.iter().filter(|row| names.contains(&row.map));
        let (used, room) = rows.fold((0, 0), |sum, row| (sum.0 + row.used, sum.1 + row.capacity));
        format!("{} of {}", used / 2, room / 2)
    };
    let names = lb_common::abi::map_name::FLOWS;
    let half_open = lb_common::abi::map_name::HALF_OPEN;
    format!("Flows:    {} established, {} half-open", of(names), of(half_open))
}

/// What was dropped and refused since the maps were made, the most frequent first.
fn counters(status: &Status) -> String {
    let of = |prefix: &str| {
        let named = status.counters.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, *value)));
        let mut rows: Vec<(&str, u64)> = named.filter(|(_, value)| *value > 0).collect();
        rows.sort_by_key(|(name, value)| (std::cmp::Reverse(*value), *name));
        let mut text = rows.iter().map(|(_, value)| value).sum::<u64>().to_string();
        let few: Vec<String> = rows.iter().take(COUNTERS).map(|(name, value)| format!("{name} {value}")).collect();
        if !few.is_empty() {
            let more = if rows.len() > COUNTERS { ", ..." } else { "" };
            let _never_fails = write!(text, " ({}{more})", few.join(", "));
        }
        text
    };
    format!("Packets:  dropped {}; refused {}", of("drop_"), of("reject_"))
}

#[cfg(test)]
mod tests {
    use super::super::health;
    use super::*;
    use crate::cli::list::golden;
    use crate::cli::status::state::{Agent, MapRow};
    use crate::reconcile::agent_report::{RefusalRow, SourceRow};

    fn status() -> Status {
        let report = AgentReport {
            version: "0.1.0".into(),
            node_name: "node-17".into(),
            source: SourceRow {
                kind: "kube".into(),
                from: "https://192.0.2.1:6443".into(),
                connected: true,
                ..SourceRow::default()
            },
            ..AgentReport::default()
        };
        let map = |map, used, capacity| MapRow { map, used, capacity };
        Status {
            healthy: true,
            problems: Vec::new(),
            synced: true,
            abi: 4,
            agent: Agent { pid: 4711, owner: "0".into(), alive: true, started_ns: 0, synced_ns: 1, updated_ns: 1 },
            services: 12,
            backends: 1,
            frontends: 30,
            counters: [("drop_no_route", 500), ("drop_ttl", 12), ("reject_no_endpoints", 7), ("new_flow", 9)].into(),
            maps: vec![map("FLOWS4", 20, 8192), map("FLOWS6", 4, 8192), map("HALF4", 6, 4096), map("NAMES", 12, 4096)],
            report: Some(report),
        }
    }

    fn worse() -> Status {
        let mut status = status();
        status.agent.alive = false;
        status.maps.push(MapRow { map: "BACKENDS4", used: 4000, capacity: 4096 });
        status.maps.push(MapRow { map: "HALF6", used: 4096, capacity: 4096 });
        let report = status.report.as_mut().unwrap();
        report.attach.warnings =
            vec!["net.ipv4.ip_forward is 0: packets to Pods of other nodes are not forwarded".into()];
        report.sockets.errors = vec!["no cgroup2 file system is mounted".into()];
        report.refusals = vec![RefusalRow {
            kind: "Service".into(),
            object: "shop/web".into(),
            reason: "BadPort".into(),
            message: "port 70000: use 1 to 65535".into(),
        }];
        status
    }

    #[test]
    fn the_state_is_at_most_ten_lines_with_problems_first() {
        for (name, mut status, errors) in [("status", status(), 0), ("status-problems", worse(), 2)] {
            status.problems = health::problems(&status);
            let found = status.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
            assert_eq!(found, errors, "{:#?}", status.problems);
            for columns in [80, 120, 200] {
                let text = text(&status, Width::Columns(columns));
                assert!(
                    text.lines().count() <= 10 && text.lines().all(|line| line.chars().count() <= columns),
                    "{text}"
                );
                golden::compare(&format!("{name}.{columns}"), &text);
            }
        }
        let all = health::problems(&worse());
        assert!(all.iter().any(|problem| problem.message.contains("BACKENDS4")), "{all:#?}");
        assert!(!all.iter().any(|problem| problem.message.contains("HALF6")), "may be full: {all:#?}");
    }
}
