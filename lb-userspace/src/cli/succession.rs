//! One agent after the other: a successor loads its programs, asks, and writes only when the one before is gone.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::status;
use crate::load::Loaded;
use crate::load::writer_lock::{Candidate, WriterLock};
use crate::maps::kernel::KernelTables;

/// An agent of a version that takes no lock looks for its successor every 200 ms, but not within a batch.
const OLDER_VERSION_PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the agent that runs to end, and takes its place.
pub(super) async fn take_over(
    pin_path: &Path,
    candidate: Candidate,
    loaded: &mut Loaded,
) -> anyhow::Result<(KernelTables, WriterLock)> {
    if candidate.has_predecessor() {
        tracing::info!("taking over from the agent that runs");
    }
    let succeeding = tokio::task::spawn_blocking(|| candidate.succeed().map(|lock| (candidate, lock))).await?;
    let (candidate, lock) = succeeding.with_context(|| format!("cannot lock the pins of {}", pin_path.display()))?;
    tokio::task::block_in_place(|| loaded.switch(candidate))?;
    let mut tables = KernelTables::open(pin_path)?;
    outlast_older_version(&mut tables).await?;
    Ok((tables, lock))
}

/// Agents of versions before the lock end when they find another process id in `STATUS`.
async fn outlast_older_version(tables: &mut KernelTables) -> anyhow::Result<()> {
    let state = tables.status()?;
    let runs = || status::older_version_runs(&state);
    if state.pid == std::process::id() || !runs() {
        return Ok(());
    }
    tracing::info!(pid = state.pid, "taking over from an agent of an older version");
    tables.update_status(|status| status.pid = std::process::id())?;
    let deadline = Instant::now() + OLDER_VERSION_PATIENCE;
    while runs() && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    if runs() {
        tracing::warn!(pid = state.pid, "the older agent still runs; it stops writing when it next looks at the maps");
    }
    Ok(())
}
