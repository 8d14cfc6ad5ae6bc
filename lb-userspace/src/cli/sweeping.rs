//! Sweeps the flow tables now and then while the agent runs.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::load::upgrade;
use crate::maps::LiveFlows;
use crate::maps::jiffies::Ticks;
use crate::maps::sweep::{Sweeper, Timeouts};
use crate::metrics::Metrics;

const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The first sweep comes soon: until then the data path does not know which flows there are not.
const FIRST_AFTER: Duration = Duration::from_millis(500);
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// Removes idle flows, on a separate thread, and tells which frontends and backends have flows.
pub(super) fn start(pin_path: PathBuf, ticks: Option<u32>, metrics: Metrics, live: watch::Sender<Option<LiveFlows>>) {
    let Some(per_second) = ticks else {
        tracing::warn!("the kernel's tick rate is unknown: idle flows stay until newer ones need their room");
        return;
    };
    tokio::task::spawn_blocking(move || {
        let mut sweeper = loop {
            match Sweeper::new(&pin_path, Ticks { per_second }, Timeouts::default(), SWEEP_PAUSE) {
                Ok(sweeper) => break sweeper,
                Err(failure) => tracing::warn!(%failure, "cannot sweep idle flows"),
            }
            std::thread::sleep(SWEEP_EVERY);
        };
        std::thread::sleep(FIRST_AFTER);
        // A sweep says which flows there are: it has to wait for those that are still in former maps.
        while upgrade::is_under_way(&pin_path) {
            std::thread::sleep(FIRST_AFTER);
        }
        loop {
            match sweeper.sweep() {
                Ok(swept) => {
                    tracing::debug!(removed = swept.removed, live = swept.live, "swept idle flows");
                    metrics.swept(&swept);
                    live.send_replace(Some(swept.in_use));
                }
                Err(failure) => tracing::warn!(%failure, "cannot sweep idle flows"),
            }
            std::thread::sleep(SWEEP_EVERY);
        }
    });
}
