//! Tells what changed: refusals to the log, everything to the report. Does nothing for what stayed as it was.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use tokio::sync::watch;

use super::agent_report::{AgentReport, SourceRow};
use super::facts::ReconcileSettings;
use super::origin::Origin;
use crate::check::board::Board;
use crate::check::finding::Finding;
use crate::config::forward::ForwardMode;
use crate::devices::AttachReport;
use crate::http::TakenPorts;
use crate::model::desired::Refusal;
use crate::sockets::SocketReport;

/// Lines of the log about refusals at a time; the report has them all.
const LINES_AT_ONCE: usize = 50;

/// Ports in the report that somebody else has.
const PORTS: usize = 100;

/// What is new since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The source's state.
    pub(super) source: bool,
    /// Devices and features.
    pub(super) attach: bool,
    /// What is not served.
    pub(super) refusals: bool,
}

/// Keeps what was told.
#[derive(Debug)]
pub(super) struct Reporter {
    node_name: String,
    origin: Origin,
    source: SourceRow,
    attach: AttachReport,
    sockets: SocketReport,
    taken: watch::Receiver<BTreeMap<SocketAddr, String>>,
    checks: watch::Receiver<Vec<Finding>>,
    forward: ForwardMode,
    /// Version of the refusals, of the world and of the writer, that was told.
    refusals_seen: Option<[u64; 2]>,
    /// Refusals that the log has.
    logged: HashSet<Refusal>,
    /// The report in the map is not up to date.
    stale: bool,
    /// Reports put together so far.
    #[cfg(test)]
    pub(super) serialised: usize,
}

impl Reporter {
    pub(super) fn new(settings: &ReconcileSettings, origin: Origin, taken: &TakenPorts, board: &Board) -> Self {
        Self {
            node_name: settings.node_name.clone(),
            source: origin.row(),
            origin,
            attach: AttachReport::default(),
            sockets: settings.socket_report.clone(),
            taken: taken.follow(),
            checks: board.follow(),
            forward: settings.forward,
            refusals_seen: None,
            logged: HashSet::new(),
            stale: true,
            #[cfg(test)]
            serialised: 0,
        }
    }

    /// The source's state, as of the last look.
    pub(super) const fn source(&self) -> &SourceRow {
        &self.source
    }

    /// Devices and features, as of the last look.
    pub(super) const fn attach(&self) -> &AttachReport {
        &self.attach
    }

    /// Whether the source is the Kubernetes API.
    pub(super) const fn is_kube(&self) -> bool {
        matches!(self.origin, Origin::Kube(_))
    }

    /// Looks for what changed. `attach`: what is attached, if it may have changed.
    pub(super) fn look(&mut self, attach: Option<AttachReport>, refusals: [u64; 2]) -> News {
        let mut news = News::default();
        if let Some(row) = self.origin.news(&self.source) {
            self.source = row;
            news.source = true;
        }
        if let Some(attach) = attach.filter(|attach| *attach != self.attach) {
            self.attach = attach;
            news.attach = true;
        }
        news.refusals = self.refusals_seen.replace(refusals) != Some(refusals);
        self.stale |= news != News::default()
            || self.taken.has_changed().unwrap_or(false)
            || self.checks.has_changed().unwrap_or(false);
        news
    }

    /// Each refusal is logged once, when it appears.
    pub(super) fn log<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal>) {
        let current: HashSet<&Refusal> = refusals.collect();
        let mut fresh: Vec<&Refusal> = current.iter().copied().filter(|row| !self.logged.contains(*row)).collect();
        fresh.sort_unstable();
        for Refusal { kind, object, reason, message } in fresh.iter().take(LINES_AT_ONCE) {
            tracing::warn!(kind, %object, reason = reason.name(), "not served: {message}");
        }
        if fresh.len() > LINES_AT_ONCE {
            tracing::warn!("and {} more, which `sluice status` shows", fresh.len() - LINES_AT_ONCE);
        }
        self.logged = current.into_iter().cloned().collect();
    }

    /// The report, unless the one that was written still holds. It is given again until [`Reporter::written`].
    pub(super) fn report<'a>(
        &mut self,
        refusals: impl Iterator<Item = &'a Refusal>,
        host_ports: &str,
        room: usize,
    ) -> Option<serde_json::Result<String>> {
        if !self.stale {
            return None;
        }
        #[cfg(test)]
        {
            self.serialised += 1;
        }
        let mut report = AgentReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_name: self.node_name.clone(),
            source: self.source.clone(),
            attach: AttachReport {
                not_served: self
                    .sockets
                    .not_served()
                    .into_iter()
                    .chain(self.attach.not_served.iter().cloned())
                    .collect(),
                ..self.attach.clone()
            },
            sockets: self.sockets.clone(),
            ports_taken: self.taken.borrow_and_update().values().take(PORTS).cloned().collect(),
            checks: self.checks.borrow_and_update().clone(),
            forward: self.forward.into(),
            host_ports: host_ports.to_owned(),
            refusals: refusals.map(Into::into).collect(),
            refusals_omitted: 0,
        };
        Some(report.to_json(room))
    }

    /// The report is in the map.
    pub(super) const fn written(&mut self) {
        self.stale = false;
    }
}
