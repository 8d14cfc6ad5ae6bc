//! The Kubernetes API as a source: Services, EndpointSlices, the own Node and its Pods, and `ServiceCIDR`s, listed and then
//! watched.
//!
//! Nothing is taken back while the API cannot be reached: what was known stays in force, and a new list replaces it at
//! once when it is complete.

mod selected;
#[cfg(test)]
mod tests;
mod version;
mod watches;

use std::sync::Arc;

use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::selected::{SelectError, selected};
use self::version::ask_version;
use self::watches::{Progress, follow, node_grace};
use super::objects::{ApiObject, Scope, for_each_kind};
use crate::kube::{ClientError, ClientSettings, Connection, Observer, connect};
use crate::model::event::SourceEvent;

/// What to read, and from where.
#[derive(Clone, Debug, Default)]
pub struct KubeSettings {
    /// How to reach the API.
    pub api: ClientSettings,
    /// Name of the own Node.
    pub node_name: String,
    /// Ask where `ClusterIP`s come from.
    pub service_cidrs: bool,
    /// Ask for this node's Pods.
    pub host_ports: bool,
    /// Ask for the cluster's version.
    pub version: bool,
}

/// The running source. Dropping it stops it.
pub struct KubeSource {
    /// Whether the API answers.
    pub connection: watch::Receiver<Connection>,
    /// For events.
    pub client: Client,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSource").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Starts to list and watch. Fails on a wrong configuration only: an API that is away is waited for.
pub async fn spawn(settings: KubeSettings, events: Sender<SourceEvent>) -> Result<KubeSource, ClientError> {
    let (observer, connection) = Observer::new(settings.api.requests.clone());
    let client = connect(&settings.api, &observer).await?;
    Ok(start(client, &settings, events, observer, connection))
}

fn start(
    client: Client,
    settings: &KubeSettings,
    events: Sender<SourceEvent>,
    observer: Observer,
    connection: watch::Receiver<Connection>,
) -> KubeSource {
    let KubeSettings { node_name, service_cidrs, host_ports, .. } = settings;
    let scope = Scope { node_name, service_cidrs: *service_cidrs, host_ports: *host_ports };
    let progress = Arc::new(Progress::new(events, observer, &scope, settings.version));
    let mut tasks = JoinSet::new();
    macro_rules! follow_kind {
        ($api:ty) => {
            if let Some(selector) = <$api>::selector(&scope) {
                tasks.spawn(follow(Api::<$api>::all(client.clone()), selector, Arc::clone(&progress)));
            }
        };
    }
    for_each_kind!(follow_kind);
    if settings.version {
        tasks.spawn(ask_version(client.clone(), Arc::clone(&progress)));
    }
    tasks.spawn(node_grace(progress));
    KubeSource { connection, client, _tasks: tasks }
}
