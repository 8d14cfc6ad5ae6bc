//! `sluice cleanup`: takes Sluice out of the kernel. Detaching comes first, so that no program runs without its maps.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};

use super::status::agent_alive;
use crate::maps::kernel::KernelTables;

pub(super) fn cleanup(pin_path: &Path) -> anyhow::Result<()> {
    if let Ok(status) = KernelTables::open(pin_path).and_then(|tables| tables.status())
        && agent_alive(status.pid)
    {
        bail!("the agent of {} runs (pid {}); stop it first", pin_path.display(), status.pid);
    }
    for part in ["links", "sockets", "maps"] {
        remove_pins(&pin_path.join(part))?;
    }
    ignore_missing(fs::remove_dir(pin_path))
        .or_else(|error| if error.kind() == io::ErrorKind::ResourceBusy { Ok(()) } else { Err(error) })
        .with_context(|| format!("cannot remove {}", pin_path.display()))
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
