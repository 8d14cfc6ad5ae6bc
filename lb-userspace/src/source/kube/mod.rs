//! The Kubernetes API as a source: Services, EndpointSlices, the own Node and `ServiceCIDR`s, listed and then watched.
//!
//! Nothing is taken back while the API cannot be reached: what was known stays in force, and a new list replaces it at
//! once when it is complete.

#[cfg(test)]
mod tests;
mod watches;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::watches::{Progress, follow, node_grace};
use super::{Kind, SourceEvent};
use crate::kube::{ClientError, ClientSettings, Connection, Observer, connect};

/// What to read, and from where.
#[derive(Clone, Debug, Default)]
pub struct KubeSettings {
    /// How to reach the API.
    pub api: ClientSettings,
    /// Name of the own Node.
    pub node_name: String,
    /// Ask where `ClusterIP`s come from.
    pub service_cidrs: bool,
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
    // A Service that gains the label shows up as deleted, which is what is wanted.
    let services = watcher::Config::default().labels("!service.kubernetes.io/service-proxy-name");
    let slices = watcher::Config::default().labels("!service.kubernetes.io/headless");
    let node = watcher::Config::default().fields(&format!("metadata.name={}", settings.node_name));
    let progress = Arc::new(Progress::new(events, observer));
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(Api::<Service>::all(client.clone()), services, Kind::Service, Arc::clone(&progress)));
    tasks.spawn(follow(Api::<EndpointSlice>::all(client.clone()), slices, Kind::EndpointSlice, Arc::clone(&progress)));
    tasks.spawn(follow(Api::<Node>::all(client.clone()), node, Kind::Node, Arc::clone(&progress)));
    if settings.service_cidrs {
        let all = watcher::Config::default();
        tasks.spawn(follow(Api::<ServiceCIDR>::all(client.clone()), all, Kind::ServiceCidr, Arc::clone(&progress)));
    }
    tasks.spawn(node_grace(progress));
    KubeSource { connection, client, _tasks: tasks }
}
