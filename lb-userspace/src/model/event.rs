//! What a source says: the events from which the world is built.

use super::desired::Refusal;
pub use super::record::{Kind, Object};

/// One event. Sources push these into a `tokio::sync::mpsc::Sender`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The object is there, or changed.
    Apply(Object),
    /// The object is gone.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for a kind without namespaces.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The full list of a kind: what is absent is gone.
    Replace(Kind, Vec<Object>),
    /// The cluster's version of Kubernetes, major and minor.
    Version((u32, u32)),
    /// Whether Pods' host ports are served.
    HostPorts {
        /// They are.
        served: bool,
        /// The same for people, with the reason.
        note: String,
    },
    /// Every kind was listed at least once.
    Synced,
    /// The complete current set of what the source itself could not read.
    Refused(Vec<Refusal>),
}
