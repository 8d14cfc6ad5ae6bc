//! Sends events to the API.
//!
//! Bounded: the same event about an object is sent once in ten minutes, and the API gets a few a second at most. What every
//! node finds is sent by one: each waits for a time by chance, in proportion to the number of nodes, then looks whether the
//! event is there, and sends it only if it is not.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::event::{Event, REPEAT, Regarding, cut};
use super::pace::{Bucket, pause};

/// Events of all nodes that wait for their turn; further ones are left to the other nodes.
const WAITING: usize = 256;
/// Nodes are counted this often, and again after a failure.
const COUNT_EVERY: Duration = Duration::from_secs(3600);
const COUNT_AGAIN: Duration = Duration::from_secs(60);
/// Nodes that there may be, as long as nobody has said.
const NODES_UNKNOWN: u32 = 100;
const HTTP_CONFLICT: u16 = 409;
const REPORTER: &str = "sluice";

/// An event that every node finds, under the name that all give it.
struct Shared {
    event: Event,
    name: String,
}

/// What the API has refused so far, each said once.
#[derive(Default)]
struct Refused {
    create: bool,
    get: bool,
}

/// Sends one node's events.
pub(super) struct Sender {
    client: Client,
    node_name: String,
    sent: HashMap<u64, Instant>,
    shared: Vec<Shared>,
    shared_due: Instant,
    nodes: u32,
    count_due: Instant,
    bucket: Bucket,
    refused: Refused,
}

impl Sender {
    pub(super) fn new(client: Client, node_name: String) -> Self {
        let now = Instant::now();
        Self {
            client,
            node_name,
            sent: HashMap::new(),
            shared: Vec::new(),
            shared_due: now,
            nodes: NODES_UNKNOWN,
            count_due: now,
            bucket: Bucket::new(),
            refused: Refused::default(),
        }
    }

    /// Sends for as long as somebody may put events.
    pub(super) async fn send_all(mut self, mut waiting: mpsc::Receiver<Event>) {
        loop {
            tokio::select! {
                event = waiting.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = sleep_until(self.count_due) => self.count_nodes().await,
                () = sleep_until(self.shared_due), if !self.shared.is_empty() => self.share().await,
            }
        }
    }

    async fn take(&mut self, event: Event) {
        self.sent.retain(|_, at| at.elapsed() < REPEAT);
        if self.sent.insert(event.fingerprint(), Instant::now()).is_some() {
            return;
        }
        let name = event.object_name(&self.node_name, Timestamp::now());
        if !event.everywhere {
            self.bucket.take().await;
            self.send(&event, name).await;
        } else if self.shared.len() < WAITING {
            if self.shared.is_empty() {
                self.shared_due = Instant::now() + pause(self.nodes);
            }
            self.shared.push(Shared { event, name });
        } else {
            tracing::debug!(reason = event.reason, "too many events wait: other nodes may send this one");
        }
    }

    /// Sees to one of the events that every node finds, by chance: so that several nodes see to different ones.
    async fn share(&mut self) {
        let Shared { event, name } = self.shared.swap_remove(fastrand::usize(..self.shared.len()));
        if !self.is_told(&event, &name).await {
            self.bucket.take().await;
            self.send(&event, name).await;
        }
        self.shared_due = Instant::now() + pause(self.nodes);
    }

    /// Whether another node has sent it.
    async fn is_told(&mut self, event: &Event, name: &str) -> bool {
        let api = Api::<ApiEvent>::namespaced(self.client.clone(), home(event));
        match api.get_metadata_opt(name).await {
            Ok(found) => found.is_some(),
            Err(error) => {
                if !std::mem::replace(&mut self.refused.get, true) {
                    tracing::warn!(
                        %error,
                        "it cannot be seen which events other nodes have sent: all are sent, allow get of events.k8s.io"
                    );
                }
                false
            }
        }
    }

    async fn send(&mut self, event: &Event, name: String) {
        if let Err(error) = create(&self.client, &self.node_name, event, name).await {
            if !std::mem::replace(&mut self.refused.create, true) {
                tracing::warn!(%error, "the API refuses events: they are only in this log, allow create of events.k8s.io");
            }
            tracing::debug!(%error, reason = event.reason, "the API refused an event");
        }
    }

    /// How many nodes there are: a list of one says how many more would follow.
    async fn count_nodes(&mut self) {
        let one = ListParams::default().limit(1);
        match Api::<Node>::all(self.client.clone()).list_metadata(&one).await {
            Ok(list) => {
                let more = list.metadata.remaining_item_count.unwrap_or(0);
                self.nodes = u32::try_from(more).unwrap_or(0).saturating_add(1);
                self.count_due = Instant::now() + COUNT_EVERY;
            }
            Err(error) => {
                tracing::debug!(%error, "nodes cannot be counted");
                self.count_due = Instant::now() + COUNT_AGAIN;
            }
        }
    }
}

/// The namespace of an event. Objects without a namespace have their events in `default`.
fn home(event: &Event) -> &str {
    if event.regarding.namespace.is_empty() { "default" } else { &event.regarding.namespace }
}

async fn create(client: &Client, node_name: &str, event: &Event, event_name: String) -> Result<(), kube::Error> {
    let Regarding { kind, namespace, name } = &event.regarding;
    let uid = match *kind {
        "Service" => uid::<Service>(client, namespace, name).await,
        "EndpointSlice" => uid::<EndpointSlice>(client, namespace, name).await,
        // By custom a Node's events carry its name as uid: that is where kubectl looks.
        _ => Some(name.clone()),
    };
    let home = home(event);
    let body = ApiEvent {
        metadata: ObjectMeta { name: Some(event_name), namespace: Some(home.to_owned()), ..ObjectMeta::default() },
        regarding: Some(ObjectReference {
            api_version: Some(if *kind == "EndpointSlice" { "discovery.k8s.io/v1" } else { "v1" }.to_owned()),
            kind: Some((*kind).to_owned()),
            namespace: (!namespace.is_empty()).then(|| namespace.clone()),
            name: Some(name.clone()),
            uid,
            ..ObjectReference::default()
        }),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason.clone()),
        action: Some(event.action.to_owned()),
        note: Some(cut(&event.note)),
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        ..ApiEvent::default()
    };
    match Api::<ApiEvent>::namespaced(client.clone(), home).create(&PostParams::default(), &body).await {
        Err(kube::Error::Api(status)) if status.code == HTTP_CONFLICT => Ok(()),
        done => done.map(drop),
    }
}

/// An object's uid, by a list: the right to list is there already. Without it kubectl does not show the event.
async fn uid<K>(client: &Client, namespace: &str, name: &str) -> Option<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    api.list_metadata(&named).await.ok()?.items.into_iter().next()?.metadata.uid
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
