//! Tells systemd how the agent is, where it is a unit of `Type=notify`.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{interval, sleep};

use crate::health::ProxyHealth;

/// How often the agent looks whether its first full state is in force.
const LOOK: Duration = Duration::from_millis(100);

/// Says when the node's Services are served, and from then on that the agent keeps up, as often as the unit asks for.
pub(super) fn start(health: Arc<ProxyHealth>) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let watchdog = sd_notify::watchdog_enabled();
        tokio::spawn(follow(health, watchdog, sd_notify::notify));
    }
}

/// Says that the agent ends on purpose.
pub(super) fn stopping() {
    told(sd_notify::notify(&[NotifyState::Stopping]));
}

async fn follow<F>(health: Arc<ProxyHealth>, watchdog: Option<Duration>, tell: F)
where
    F: Fn(&[NotifyState<'_>]) -> std::io::Result<()>,
{
    told(tell(&[NotifyState::Status("waiting for the first full list of Services")]));
    while !health.is_ready() {
        sleep(LOOK).await;
    }
    told(tell(&[NotifyState::Ready, NotifyState::Status("serving")]));
    let Some(limit) = watchdog else { return };
    // Half of it, as sd_watchdog_enabled(3) advises.
    let mut beat = interval(limit / 2);
    loop {
        beat.tick().await;
        // An agent that does not keep up falls silent, and is started anew.
        if health.is_healthy() {
            told(tell(&[NotifyState::Watchdog]));
        }
    }
}

fn told(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was told within some seconds of an agent that is ready at once.
    async fn told_of(health: Arc<ProxyHealth>, watchdog: Option<Duration>, secs: u64) -> Vec<String> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&said);
        let tell = move |state: &[NotifyState<'_>]| {
            into.lock().unwrap().extend(state.iter().map(ToString::to_string));
            Ok(())
        };
        let telling = tokio::spawn(follow(health, watchdog, tell));
        sleep(Duration::from_secs(secs)).await;
        telling.abort();
        let said = said.lock().unwrap().clone();
        said.into_iter().map(|line| line.trim().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_is_ready_with_the_first_full_state_and_not_before() {
        let health = Arc::new(ProxyHealth::new(Duration::from_secs(30)));
        let before = told_of(Arc::clone(&health), None, 5).await;
        assert_eq!(before, ["STATUS=waiting for the first full list of Services"]);
        health.set_ready();
        let after = told_of(health, None, 5).await;
        assert_eq!(after[1..], ["READY=1", "STATUS=serving"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_keep_up_lets_the_watchdog_bite() {
        let health = Arc::new(ProxyHealth::new(Duration::from_secs(30)));
        health.set_ready();
        let said = told_of(health, Some(Duration::from_secs(4)), 5).await;
        assert_eq!(said.iter().filter(|line| *line == "WATCHDOG=1").count(), 3, "{said:?}");
        let stuck = Arc::new(ProxyHealth::new(Duration::ZERO));
        stuck.set_ready();
        stuck.queued();
        std::thread::sleep(Duration::from_millis(2));
        let said = told_of(stuck, Some(Duration::from_secs(4)), 5).await;
        assert!(!said.iter().any(|line| line == "WATCHDOG=1"), "{said:?}");
    }
}
