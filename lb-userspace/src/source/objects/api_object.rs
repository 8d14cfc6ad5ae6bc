//! What the sources must know of a type of the Kubernetes API to read it as a record.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use crate::model::record::{Kind, Object, Record};

/// A type of the Kubernetes API that is read as a record.
pub(crate) trait ApiObject:
    k8s_openapi::Resource + kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// What is kept of it.
    type Record: Record + From<Self> + Into<Object>;
    /// Its kind.
    const KIND: Kind;
    /// Whether it is read from manifests, too.
    const IN_MANIFESTS: bool;
    /// Whether everything else waits for the first list.
    const WAIT: Wait;

    /// Which objects to ask the API for; none: the kind is not needed.
    fn selector(scope: &Scope<'_>) -> Option<Selector>;

    /// The object as a source says it.
    fn into_object(self) -> Object {
        Self::Record::from(self).into()
    }
}

/// Whether everything else waits for the first list of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing is served without it.
    Always,
    /// For a while.
    Briefly,
    /// For a while, and what else there is is served without it.
    Hoped {
        /// What a user can do without it.
        instead: &'static str,
    },
    /// No, and a server need not have the kind.
    Never {
        /// What a user can do without it.
        instead: &'static str,
    },
}

/// Which objects of a kind the API is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// All.
    All,
    /// By label.
    Labels(&'static str),
    /// By field.
    Fields(String),
}

/// What the selection depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// Name of the own Node.
    pub(crate) node_name: &'a str,
    /// Ask where `ClusterIP`s come from.
    pub(crate) service_cidrs: bool,
    /// Ask for this node's Pods.
    pub(crate) host_ports: bool,
}
