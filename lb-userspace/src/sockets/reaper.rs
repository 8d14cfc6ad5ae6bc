//! Sees to sockets whose backend went away, on a thread of its own.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use lb_common::abi::proto;

use super::{Destroyer, Outcome, supported};
use crate::maps::sockets::{forget, orphans};
use crate::metrics::Metrics;

/// A connect that had chosen its backend just before that went is noted a moment later.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Which sockets are destroyed when their backend goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Destroy {
    /// Connected UDP sockets.
    #[default]
    Udp,
    /// UDP and TCP sockets.
    All,
    /// None.
    Off,
}

impl Destroy {
    const fn protocols(self) -> &'static [u8] {
        match self {
            Self::Udp => &[proto::UDP],
            Self::All => &[proto::UDP, proto::TCP],
            Self::Off => &[],
        }
    }
}

/// Tells the reaper that backends went away.
#[derive(Clone, Debug, Default)]
pub struct Reaper(Option<SyncSender<()>>);

impl Reaper {
    /// Starts the thread, unless nothing is to be destroyed or the kernel cannot. The second value is what a person
    /// should know.
    pub fn start(pin_path: PathBuf, which: Destroy, metrics: Metrics) -> (Self, Option<String>) {
        if which == Destroy::Off {
            return (Self::default(), Some("sockets of dead backends are left alone (--socket-destroy off)".into()));
        }
        if let Err(why) = supported() {
            return (Self::default(), Some(format!("sockets of dead backends cannot be destroyed: {why}")));
        }
        let (wake, woken) = sync_channel(1);
        let started = thread::Builder::new()
            .name("reaper".into())
            .spawn(move || reap(&woken, &pin_path, which.protocols(), &metrics));
        match started {
            Ok(_) => (Self(Some(wake)), None),
            Err(error) => (Self::default(), Some(format!("sockets of dead backends are left alone: {error}"))),
        }
    }

    /// Backends went away. Returns at once.
    pub fn wake(&self) {
        if let Some(wake) = &self.0 {
            // A full channel: it has been told and has not looked yet.
            let _told = wake.try_send(());
        }
    }
}

fn reap(woken: &Receiver<()>, pin_path: &std::path::Path, protocols: &[u8], metrics: &Metrics) {
    let mut destroyer = Destroyer::new(Vec::new());
    while woken.recv().is_ok() {
        for pause in [Duration::ZERO, SECOND_LOOK] {
            thread::sleep(pause);
            let victims = match orphans(pin_path, protocols) {
                Ok(victims) if victims.is_empty() => continue,
                Ok(victims) => victims,
                Err(failure) => {
                    tracing::warn!(%failure, "sockets of dead backends cannot be listed");
                    continue;
                }
            };
            let outcome = destroyer.destroy(&victims);
            say(&outcome);
            metrics.sockets_destroyed(outcome.destroyed);
            let failed = |victim: &&super::Victim| !outcome.failed.iter().any(|row| row.victims.contains(victim));
            if let Err(failure) = forget(pin_path, victims.iter().filter(failed)) {
                tracing::warn!(%failure, "entries of destroyed sockets stay");
            }
        }
    }
}

fn say(outcome: &Outcome) {
    tracing::debug!(destroyed = outcome.destroyed, gone = outcome.gone, "sockets of dead backends");
    for failure in &outcome.failed {
        tracing::warn!(sockets = failure.victims.len(), why = %failure.why, "sockets of a dead backend stay");
    }
    if let (false, Some(survey)) = (outcome.not_found.is_empty(), &outcome.survey) {
        let sockets = outcome.not_found.len();
        tracing::debug!(sockets, %survey, "network namespaces of sockets of dead backends were not found");
    }
}
