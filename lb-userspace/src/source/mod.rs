//! What is wanted, from outside: a folder of manifests or the Kubernetes API, both as a stream of events.

pub mod kube;
pub mod manifests;
mod objects;

use crate::model::desired::Refusal;
use crate::model::record::{NodeRecord, ServiceCidrRecord, ServiceRecord, SliceRecord};

/// Kinds of objects that Sluice reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1 Service`.
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice,
    /// `v1 Node`.
    Node,
    /// `networking.k8s.io/v1 ServiceCIDR`.
    ServiceCidr,
}

impl Kind {
    /// Name as in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

/// An object, trimmed to what matters. Made from the Kubernetes type by [`From`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Box<ServiceRecord>),
    /// An EndpointSlice.
    EndpointSlice(Box<SliceRecord>),
    /// A Node.
    Node(Box<NodeRecord>),
    /// A `ServiceCIDR`.
    ServiceCidr(Box<ServiceCidrRecord>),
}

/// What a source says. Sources push these into a `tokio::sync::mpsc::Sender`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The object is there, or changed.
    Apply(Object),
    /// The object is gone.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its namespace; empty for what has none.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The full list of a kind: what is absent is gone.
    Replace(Kind, Vec<Object>),
    /// Every kind was listed at least once.
    Synced,
    /// The complete current set of what the source itself could not read.
    Refused(Vec<Refusal>),
}
