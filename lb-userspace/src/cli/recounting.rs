//! Counts open connections again and again while the agent runs, for Services whose algorithm goes by them.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::upgrade;
use crate::maps::open_connections::Recount;
use crate::metrics::Metrics;

/// A count that is wrong is right again within a second.
const EVERY: Duration = Duration::from_millis(500);
/// Where the tables are long, the pause is so many times as long as it took to walk them: a twentieth of one processor.
const REST: u32 = 19;
/// What failed is tried again, and what is carried over from former maps is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts on a separate thread. The first time at once: the former agent may have been killed.
pub(super) fn start(pin_path: PathBuf, metrics: Metrics) {
    tokio::task::spawn_blocking(move || {
        while upgrade::is_under_way(&pin_path) {
            thread::sleep(EVERY);
        }
        let mut recount = loop {
            match Recount::open(&pin_path) {
                Ok(recount) => break recount,
                Err(failure) => tracing::warn!(%failure, "cannot count open connections"),
            }
            thread::sleep(PATIENCE);
        };
        loop {
            let begin = Instant::now();
            let pause = match recount.once() {
                Ok(done) => {
                    if done.corrected > 0 {
                        tracing::debug!(
                            backends = done.backends,
                            corrected = done.corrected,
                            "counted open connections"
                        );
                        metrics.recounted(done.corrected);
                    }
                    EVERY.max(begin.elapsed() * REST)
                }
                Err(failure) => {
                    tracing::warn!(%failure, "cannot count open connections");
                    PATIENCE
                }
            };
            thread::sleep(pause);
        }
    });
}
