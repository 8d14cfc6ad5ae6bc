//! A steady load of new connections, a thousand a second together.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use xtask::lab::Netns;
use xtask::lab::probe::{Connection, TIMEOUT};

const WORKERS: u32 = 4;
const PER_WORKER: u32 = 250;

/// Connections so far, and when to stop.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) stop: AtomicBool,
    pub(crate) done: AtomicUsize,
}

impl Load {
    /// Starts the workers, which take turns with the namespaces. Each ends with its failures.
    pub(crate) fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        namespaces: &'env [Netns],
        targets: &'env [SocketAddr],
    ) -> Vec<ScopedJoinHandle<'scope, Vec<String>>> {
        let from = namespaces.iter().cycle().take(WORKERS as usize);
        from.map(|ns| scope.spawn(move || self.work(ns, targets))).collect()
    }

    fn work(&self, ns: &Netns, targets: &[SocketAddr]) -> Vec<String> {
        ns.enter().unwrap();
        let started = Instant::now();
        let mut failures = Vec::new();
        for (round, dst) in (0..).zip(targets.iter().cycle()) {
            if self.stop.load(Ordering::Relaxed) || failures.len() > 10 {
                break;
            }
            match Connection::open(*dst, 0, TIMEOUT).and_then(|mut connection| connection.ask()) {
                Ok(_) => _ = self.done.fetch_add(1, Ordering::Relaxed),
                Err(failure) => {
                    let at = started.elapsed().as_secs_f64();
                    failures.push(format!("{at:.2} s: {} to {dst}: {failure}", ns.name()));
                }
            }
            let next = started + Duration::from_secs(1) * round / PER_WORKER;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        failures
    }
}
