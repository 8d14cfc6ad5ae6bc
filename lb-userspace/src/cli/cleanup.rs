//! `sluice cleanup`: takes Sluice out of the kernel. Detaching comes first, so that no program runs without its maps.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::status::agent_alive;
use crate::attach::links::detach_filters;
use crate::maps::kernel::KernelTables;

pub(super) fn cleanup(pin_path: &Path) -> anyhow::Result<()> {
    if let Ok(tables) = KernelTables::open(pin_path) {
        if let Ok(status) = tables.status()
            && agent_alive(status.pid)
        {
            bail!("the agent of {} runs (pid {}); stop it first", pin_path.display(), status.pid);
        }
        let report = tables.report().ok().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        for device in filtered_devices(&report) {
            detach_filters(&device);
        }
    }
    for part in ["links", "sockets", "maps"] {
        remove_pins(&pin_path.join(part))?;
    }
    ignore_missing(fs::remove_dir(pin_path))
        .or_else(|error| if error.kind() == io::ErrorKind::ResourceBusy { Ok(()) } else { Err(error) })
        .with_context(|| format!("cannot remove {}", pin_path.display()))
}

/// Devices on which the agent's report has clsact filters.
fn filtered_devices(report: &Value) -> Vec<String> {
    let rows = |value: &Value| value.as_array().cloned().unwrap_or_default();
    rows(&report["attach"]["devices"])
        .iter()
        .filter(|device| rows(&device["hooks"]).iter().any(|hook| hook["how"] == "clsact"))
        .filter_map(|device| device["name"].as_str().map(str::to_owned))
        .collect()
}

fn remove_pins(dir: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
        ignore_missing(fs::remove_file(&path)).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    ignore_missing(fs::remove_dir(dir)).with_context(|| format!("cannot remove {}", dir.display()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_looked_for_where_the_report_has_some() {
        let report = serde_json::json!({"attach": {"devices": [
            {"name": "eth0", "hooks": [{"how": "clsact"}, {"how": "native"}]},
            {"name": "eth1", "hooks": [{"how": "tcx"}]},
            {"name": "lo", "hooks": []},
        ]}});
        assert_eq!(filtered_devices(&report), ["eth0"]);
        assert!(filtered_devices(&Value::Null).is_empty());
    }
}
