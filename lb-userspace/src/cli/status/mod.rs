//! `sluice status`: whether the node is healthy, and if not, why; with `-o wide` all that is known. The exit code is 0 for
//! healthy, 3 for not, 1 where it cannot be told.
//!
//! JSON: `{healthy, problems: [{severity, message}], synced, abi, agent: {pid, owner, alive, started_ns, synced_ns, updated_ns}, services, backends, frontends, counters:
//! {name: value}, maps: [{map, used, capacity}], report: {version, node_name, source: {kind, from,
//! connected, last_error, failing_since_ns}, attach: {devices, features,
//! map_sizes, not_served, warnings, forwarding: {v4, v6, devices_off}, repairs: {count, last, last_ns}}, sockets: {mode,
//! cgroup, hooks, notes, errors}, ports_taken, checks: [{check, level, found, todo}],
//! forward: {mode, note}, refusals: [{kind, object, reason, message}], refusals_omitted}}`.

mod brief;
mod full;
mod health;
mod state;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use lb_common::abi::table::Table;
use lb_common::abi::{StatusValue, tables};

use self::state::{Agent, MapRow, Severity, Status};
use super::list::{Form, form_width};
use super::output;
use super::pin_args::PinArgs;
use crate::load::writer_lock::has_writer;
use crate::maps::kernel::KernelTables;
use crate::maps::{observe, observe::Fill};

/// Exit code of a node that is not healthy, as `systemctl status` has it for what does not run.
const NOT_HEALTHY: u8 = 3;

#[derive(Clone, Debug, Args)]
pub(super) struct StatusArgs {
    /// Form: `table` (ten lines), `wide` (all that is known), `json`, `yaml` or `jsonpath=TEMPLATE`.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
    #[command(flatten)]
    pins: PinArgs,
}

/// Whether the agent that wrote this runs, and is of a version that takes no lock.
pub(super) fn older_version_runs(&StatusValue { pid, owner, .. }: &StatusValue) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let dead =
        state.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')));
    owner == 0 && pid != 0 && !dead && name.is_ok_and(|name| name.trim_end() == "sluice")
}

pub(super) fn print(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = gather(&args.pins.pin_path)?;
    let text = match &args.output {
        Form::Table => brief::text(&status, form_width(&args.output)),
        Form::Wide => full::text(&status),
        Form::Name => bail!("-o name: the state has no name"),
        machine => machine.serialise(&status)?,
    };
    output::write(&text)?;
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::from(NOT_HEALTHY) })
}

fn gather(pin_path: &Path) -> anyhow::Result<Status> {
    let tables = KernelTables::open(pin_path)?;
    let state = tables.status()?;
    let fills = observe::fills(pin_path)?;
    let used = |table: &Table| {
        let of_table = fills.iter().filter(|fill| table.maps.iter().any(|map| map.name == fill.map));
        of_table.map(|fill| fill.used).sum()
    };
    let mut status = Status {
        healthy: true,
        problems: Vec::new(),
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
    };
    status.problems = health::problems(&status);
    status.healthy = status.problems.iter().all(|problem| problem.severity != Severity::Error);
    Ok(status)
}
