//! Where Services come from, and whether that can be read.

use std::path::PathBuf;

use tokio::sync::watch;

use super::agent_report::SourceRow;
use super::claim::ns_since_epoch;
use crate::kube::Connection;

/// Where Services come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// The Kubernetes API, and whether it answers.
    Kube(watch::Receiver<Connection>),
}

impl Origin {
    /// `manifests` or `kube`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Manifests(_) => "manifests",
            Self::Kube(_) => "kube",
        }
    }

    /// For the report.
    pub(super) fn row(&self) -> SourceRow {
        let kind = self.kind().to_owned();
        match self {
            Self::Manifests(folder) => SourceRow {
                kind,
                from: folder.display().to_string(),
                connected: folder.is_dir(),
                ..SourceRow::default()
            },
            Self::Kube(connection) => {
                let Connection { connected, server, last_error } = connection.borrow().clone();
                let failing_since_ns = last_error.as_ref().map(|error| ns_since_epoch(error.since));
                let last_error = last_error.map(|error| error.text);
                SourceRow { kind, from: server, connected, last_error, failing_since_ns }
            }
        }
    }

    /// The same if it may have changed since the last call; `before` is what that said.
    pub(super) fn news(&mut self, before: &SourceRow) -> Option<SourceRow> {
        let may_differ = match self {
            Self::Manifests(folder) => folder.is_dir() != before.connected,
            Self::Kube(connection) => {
                let changed = connection.has_changed().unwrap_or(false);
                if changed {
                    connection.mark_unchanged();
                }
                changed
            }
        };
        may_differ.then(|| self.row()).filter(|row| row != before)
    }
}
