//! The agent's report: what `sluice status` shows beside the maps themselves, stored in the `REPORT` map as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::attach::{AttachReport, SocketReport};
use crate::kube::Connection;
use crate::model::desired::Refusal;

/// The report as written.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Version of the agent.
    pub version: &'static str,
    /// Name of the node.
    pub node_name: &'a str,
    /// Where Services come from.
    pub source: SourceRow,
    /// Devices, hooks and features.
    pub attach: &'a AttachReport,
    /// Socket hooks.
    pub sockets: &'a SocketReport,
    /// What is not served, and why.
    pub refusals: Vec<RefusalRow>,
    /// Refusals that the report has no room for.
    pub refusals_omitted: usize,
}

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
}

/// The source, for people.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct SourceRow {
    /// `manifests` or `kube`.
    pub kind: &'static str,
    /// The folder, or the URL of the API server in use.
    pub from: String,
    /// Whether the source can be read now. While it cannot, the last known state stays in force.
    pub connected: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl From<&Origin> for SourceRow {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Manifests(folder) => Self {
                kind: origin.kind(),
                from: folder.display().to_string(),
                connected: folder.is_dir(),
                last_error: None,
            },
            Origin::Kube(connection) => {
                let Connection { connected, server, last_error } = connection.borrow().clone();
                Self { kind: origin.kind(), from: server, connected, last_error }
            }
        }
    }
}

/// One refusal.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RefusalRow {
    /// Kind of object.
    pub kind: String,
    /// Its name.
    pub object: String,
    /// Short stable reason.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<&Refusal> for RefusalRow {
    fn from(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.kind.to_owned(),
            object: refusal.object.clone(),
            reason: refusal.reason.name().to_owned(),
            message: refusal.message.clone(),
        }
    }
}

impl Report<'_> {
    /// JSON of at most `room` bytes: with as many refusals as fit.
    pub fn to_json(&mut self, room: usize) -> serde_json::Result<String> {
        loop {
            let json = serde_json::to_string(self)?;
            if json.len() <= room || self.refusals.is_empty() {
                return Ok(json);
            }
            let keep = self.refusals.len() / 2;
            self.refusals_omitted += self.refusals.len() - keep;
            self.refusals.truncate(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_says_how_many_refusals_it_left_out() {
        let row = RefusalRow {
            kind: "Service".into(),
            object: "default/web".into(),
            reason: "Port".into(),
            message: "x".repeat(100),
        };
        let attach = AttachReport::default();
        let mut report = Report {
            version: "0",
            node_name: "n",
            source: (&Origin::Manifests("/".into())).into(),
            attach: &attach,
            sockets: &attach.sockets,
            refusals: vec![row; 1000],
            refusals_omitted: 0,
        };
        let json = report.to_json(10_000).unwrap();
        assert!(json.len() <= 10_000);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let shown = value["refusals"].as_array().unwrap().len();
        assert!(shown > 0);
        assert_eq!(value["refusals_omitted"], 1000 - shown);
    }
}
