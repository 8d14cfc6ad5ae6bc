//! `sluice cleanup`: takes Sluice out of the kernel. Detaching comes first, so that no program runs without its maps.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use lb_common::abi::proto;

use super::output;
use super::pin_args::PinArgs;
use super::status::older_version_runs;
use crate::devices::clsact::detach_filters;
use crate::faults;
use crate::load::writer_lock::{self, NoAgent};
use crate::load::{socket_pins, upgrade};
use crate::maps::flows::{self, End, Flow};
use crate::maps::kernel::KernelTables;
use crate::reconcile::agent_report::AgentReport;

/// Open connections are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Args)]
pub(super) struct CleanupArgs {
    #[command(flatten)]
    pins: PinArgs,
    /// Leave new connections to others at once, such as kube-proxy, but let those that are open go on for so long, or until all
    /// of TCP are closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain: u64,
}

pub(super) fn cleanup(args: &CleanupArgs) -> anyhow::Result<()> {
    let pin_path = &args.pins.pin_path;
    if !pin_path.exists() {
        return Ok(());
    }
    // Held to the end: no agent starts meanwhile.
    let locked =
        NoAgent::ensure(pin_path).with_context(|| format!("cannot lock the pins of {}", pin_path.display()))?;
    let Some(_no_agent) = locked else { bail!("the agent of {} runs; stop it first", pin_path.display()) };
    if let Ok(mut tables) = KernelTables::open(pin_path) {
        if let Ok(status) = tables.status()
            && older_version_runs(&status)
        {
            bail!("the agent of {} runs (pid {}); stop it first", pin_path.display(), status.pid);
        }
        if args.drain > 0 {
            drain(&mut tables, pin_path, Duration::from_secs(args.drain))?;
        }
        match read_report(&tables) {
            Ok(report) => filtered_devices(&report).for_each(detach_filters),
            Err(error) => {
                output::complain(&error.context("cannot read the agent's report: clsact filters stay attached"));
            }
        }
    }
    for part in ["links", socket_pins::FOLDER].into_iter().chain(upgrade::FOLDERS) {
        remove_pins(&pin_path.join(part))?;
    }
    faults::point("cleanup, locks")
        .and_then(|()| fs::remove_dir_all(writer_lock::directory(pin_path)))
        .with_context(|| format!("cannot remove the locks of {}", pin_path.display()))?;
    ignore_missing(fs::remove_dir(pin_path))
        .or_else(|error| if error.kind() == io::ErrorKind::ResourceBusy { Ok(()) } else { Err(error) })
        .with_context(|| format!("cannot remove {}", pin_path.display()))
}

/// An agent that is started after this has been stopped half-way serves all Services again.
fn drain(tables: &mut KernelTables, pin_path: &Path, patience: Duration) -> anyhow::Result<()> {
    tables.leave_services().context("cannot leave new connections to others")?;
    let is_open = |flow: &Flow| flow.protocol == proto::TCP && !flow.direct && flow.end != End::Closed;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !flows::list(pin_path, 1, is_open)?.is_empty() {
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn read_report(tables: &KernelTables) -> anyhow::Result<AgentReport> {
    let json = tables.report()?;
    if json.is_empty() { Ok(AgentReport::default()) } else { Ok(serde_json::from_str(&json)?) }
}

/// Devices on which the agent's report has clsact filters.
fn filtered_devices(report: &AgentReport) -> impl Iterator<Item = &str> {
    let devices = report.attach.devices.iter();
    let filtered = devices.filter(|device| device.hooks.iter().any(|hook| hook.how == "clsact"));
    filtered.map(|device| device.name.as_str())
}

fn remove_pins(dir: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
        let removed = faults::point("cleanup, pin").and_then(|()| fs::remove_file(&path));
        ignore_missing(removed).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    ignore_missing(faults::point("cleanup, folder").and_then(|()| fs::remove_dir(dir)))
        .with_context(|| format!("cannot remove {}", dir.display()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_are_looked_for_where_the_report_has_some() {
        let device = |name: &str, how: &[&str]| {
            let hooks = how.iter().map(|how| json!({"hook": "ingress", "program": "p", "how": how}));
            json!({"index": 1, "name": name, "kind": "veth", "role": "pod", "why": "", "notes": [], "errors": [],
                "hooks": hooks.collect::<Vec<_>>()})
        };
        let devices = [device("eth0", &["clsact", "native"]), device("eth1", &["tcx"]), device("lo", &[])];
        let report = serde_json::from_value(json!({"attach": {"devices": devices}})).unwrap();
        assert_eq!(filtered_devices(&report).collect::<Vec<_>>(), ["eth0"]);
    }
}
