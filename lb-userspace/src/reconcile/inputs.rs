//! What the reconciler is fed with, and how it ends.

use tokio::sync::{mpsc, watch};

use crate::devices::{AttachReport, NodeNetwork};
use crate::maps::LiveFlows;
use crate::model::event::SourceEvent;

/// Where everything comes from.
#[derive(Debug)]
pub struct Inputs {
    /// Kubernetes objects.
    pub events: mpsc::Receiver<SourceEvent>,
    /// The node's addresses.
    pub network: watch::Receiver<NodeNetwork>,
    /// Devices and features, for the report.
    pub attach: watch::Receiver<AttachReport>,
    /// What the newest sweep found.
    pub live: watch::Receiver<Option<LiveFlows>>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another agent waits for this pin path.
    TakenOver,
    /// Another agent has written itself into `STATUS`, and none waits.
    Ousted,
    /// The source is gone.
    SourceEnded,
}
