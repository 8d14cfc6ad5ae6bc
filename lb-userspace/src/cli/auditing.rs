//! The checks of `sluice check`, made by the agent now and then while it runs: for its report, its metrics and its log.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::allocator;
use crate::causes::with_causes;
use crate::check::board::Board;
use crate::check::facts::AgentFacts;
use crate::check::gather::{self, Ask};
use crate::check::{self, finding::Finding};
use crate::devices::AttachReport;
use crate::metrics::Metrics;

/// The first look comes when the agent has begun to serve.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// Tools of the firewall are asked, maps are read: that need not be often. `sluice check` looks at once.
const EVERY: Duration = Duration::from_secs(120);
/// What the agent itself shows elsewhere as it changes.
const SHOWN_ELSEWHERE: [&str; 3] = ["agent", "source", "refusals"];

/// What the checks of an agent need.
pub(super) struct Audit {
    pub(super) pin_path: PathBuf,
    pub(super) snat_ports: (u16, u16),
    pub(super) attach: watch::Receiver<AttachReport>,
    pub(super) board: Board,
    pub(super) metrics: Metrics,
}

/// Checks now and then, on a separate thread.
pub(super) fn start(audit: Audit) {
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(FIRST_AFTER);
        loop {
            audit.once();
            allocator::give_back();
            std::thread::sleep(EVERY);
        }
    });
}

impl Audit {
    fn once(&self) {
        let devices = self.attach.borrow().devices.clone();
        let roles = devices.into_iter().map(|device| (device.name, (device.role, device.why))).collect();
        let ask = Ask { pin_path: self.pin_path.clone(), snat_ports: self.snat_ports, roles: Some(roles) };
        let mut facts = match Handle::current().block_on(gather::facts(&ask)) {
            Ok(facts) => facts,
            Err(error) => {
                tracing::debug!(error = with_causes(&error), "the node cannot be checked now");
                return;
            }
        };
        facts.agent = Some(AgentFacts { alive: true, synced: true, ..AgentFacts::default() });
        facts.names = Some(self.board.names());
        let mut findings = check::all(&facts);
        findings.retain(|finding| !SHOWN_ELSEWHERE.contains(&&*finding.check));
        for Finding { check, level, found, todo } in self.board.post(&findings) {
            let todo = todo.unwrap_or_default();
            tracing::warn!(%check, level = level.name(), "{found}; do: {todo}");
        }
        self.metrics.update(|snapshot| snapshot.checks = check::levels(&findings));
    }
}
