//! Sees to sockets whose backend went away, on a separate thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use lb_common::abi::proto;

use super::destroyer::Destroyer;
use super::outcome::Outcome;
use super::support::supported;
use crate::causes::with_causes;
use crate::maps::sockets::{SocketRow as Victim, forget, orphans};

/// A connect that had chosen its backend just before that went is noted a moment later.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Which sockets are seen to when their backend goes away.
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

/// How long a caller waits for the first look: an ordinary one takes a millisecond or two.
const PATIENCE: Duration = Duration::from_millis(20);

/// Tells the reaper that backends went away.
#[derive(Debug, Default)]
pub struct Reaper(Option<(SyncSender<()>, Receiver<()>)>);

impl Reaper {
    /// Starts the thread, unless nothing is to be destroyed or the kernel cannot. The second value is what a person
    /// should know. `moves`: UDP sockets are moved where that can be. `everywhere`: sockets of other network namespaces are
    /// served, too. `count` gets what became of those of each look.
    pub fn start(
        pin_path: PathBuf,
        which: Destroy,
        moves: bool,
        everywhere: bool,
        count: impl Fn(&Outcome) + Send + 'static,
    ) -> (Self, Option<String>) {
        if which == Destroy::Off {
            return (Self::default(), Some("sockets of dead backends are left alone (--socket-destroy off)".into()));
        }
        if let Err(why) = supported() {
            return (Self::default(), Some(format!("sockets of dead backends cannot be destroyed: {why}")));
        }
        let (wake, woken) = sync_channel(1);
        let (done, looked) = sync_channel(1);
        let started = thread::Builder::new().name("reaper".into()).spawn(move || {
            let mut destroyer = Destroyer::default();
            if everywhere {
                warn_of_namespaces_out_of_reach(&mut destroyer);
            }
            let look = || look(&mut destroyer, &pin_path, which.protocols(), moves, &count);
            reap((&woken, &done), look);
        });
        match started {
            Ok(_) => (Self(Some((wake, looked))), None),
            Err(error) => (Self::default(), Some(format!("sockets of dead backends are left alone: {error}"))),
        }
    }

    /// Backends went away. Returns when their sockets have been seen to, or soon after if that takes longer.
    pub fn wake(&self) {
        if let Some((wake, looked)) = &self.0 {
            while looked.try_recv().is_ok() {}
            // A full channel: it has been told and has not looked yet.
            let _told = wake.try_send(());
            let _late = looked.recv_timeout(PATIENCE);
        }
    }
}

fn reap((woken, done): (&Receiver<()>, &SyncSender<()>), mut look: impl FnMut()) {
    let mut again = false;
    loop {
        // A second look, unless there is news before it is due: then that look is the second one as well.
        let news = if again {
            match woken.recv_timeout(SECOND_LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else if woken.recv().is_ok() {
            true
        } else {
            return;
        };
        look();
        if news {
            let _nobody_waits = done.try_send(());
        }
        again = news;
    }
}

/// Sockets of dead backends stay in namespaces that this process may not enter or see: better told at the start than when
/// it matters.
fn warn_of_namespaces_out_of_reach(destroyer: &mut Destroyer) {
    match destroyer.survey() {
        Ok(survey) if survey.refused > 0 || survey.unreadable > 0 => {
            tracing::warn!(%survey, "sockets of dead backends cannot be destroyed in every network namespace");
        }
        Ok(survey) => tracing::debug!(%survey, "network namespaces whose sockets can be destroyed"),
        Err(error) => tracing::warn!(error = with_causes(&error), "network namespaces cannot be looked for"),
    }
}

fn look(destroyer: &mut Destroyer, pin_path: &Path, protocols: &[u8], moves: bool, count: &impl Fn(&Outcome)) {
    let mut victims = match orphans(pin_path, protocols) {
        Ok(victims) => victims,
        Err(failure) => return tracing::warn!(%failure, "sockets of dead backends cannot be listed"),
    };
    if victims.is_empty() {
        return;
    }
    if !moves {
        for victim in &mut victims {
            victim.frontend = None;
        }
    }
    let outcome = destroyer.destroy(&victims);
    say(&outcome);
    count(&outcome);
    let seen_to = |victim: &&Victim| !outcome.failed.iter().any(|row| row.victims.contains(victim));
    if let Err(failure) = forget(pin_path, victims.iter().filter(seen_to)) {
        tracing::warn!(%failure, "entries of sockets that were moved or destroyed stay");
    }
}

fn say(outcome: &Outcome) {
    tracing::debug!(
        moved = outcome.moved,
        destroyed = outcome.destroyed,
        gone = outcome.gone,
        "sockets of dead backends"
    );
    for failure in &outcome.failed {
        tracing::warn!(sockets = failure.victims.len(), why = %failure.why, "sockets of a dead backend stay");
    }
    if let (false, Some(survey)) = (outcome.not_found.is_empty(), &outcome.survey) {
        let sockets = outcome.not_found.len();
        tracing::debug!(sockets, %survey, "network namespaces of sockets of dead backends were not found");
    }
}
