//! Events on Kubernetes objects, and the same as log lines: the log always, the API when there is one.
//!
//! Bounded: the same event about an object is sent once in ten minutes, by one of the nodes where it is true on all of
//! them, and the API gets a few events a second at most.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::model::desired::Refusal;

/// Events that wait to be sent; further ones are only logged.
const WAITING: usize = 256;
/// The same event is not sent again before.
const REPEAT: Duration = Duration::from_secs(600);
/// Events sent without a pause between them, and the pause after those.
const BURST: u32 = 25;
const PAUSE: Duration = Duration::from_millis(500);
/// The API's limit for a note.
const NOTE_LEN: usize = 1024;
/// The API's limit for a name.
const NAME_LEN: usize = 253;
const HTTP_CONFLICT: u16 = 409;
const REPORTER: &str = "sluice";

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Regarding {
    kind: &'static str,
    namespace: String,
    name: String,
}

impl Regarding {
    /// An object of a namespace.
    pub fn object(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// A Node.
    pub fn node(name: &str) -> Self {
        Self::object("Node", "", name)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub regarding: Regarding,
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// What was being done.
    pub action: &'static str,
    /// For people.
    pub note: String,
    /// Every node finds the same: one of them is enough to send it.
    pub everywhere: bool,
}

impl Event {
    /// An event of type `Normal`.
    pub fn normal(regarding: Regarding, reason: &str, action: &'static str, note: String) -> Self {
        Self { regarding, warning: false, reason: reason.to_owned(), action, note, everywhere: false }
    }

    /// An event of type `Warning`.
    pub fn warning(regarding: Regarding, reason: &str, action: &'static str, note: String) -> Self {
        Self { regarding, warning: true, reason: reason.to_owned(), action, note, everywhere: false }
    }

    /// A name that no other event has. Where every node finds the same, all give it the same name for a while: the API
    /// takes it from the first.
    fn object_name(&self, node: &str, now: Timestamp) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.regarding, &self.reason, &self.note).hash(&mut hasher);
        if self.everywhere {
            (now.as_second() / REPEAT.as_secs().cast_signed()).hash(&mut hasher);
        } else {
            (node, now.as_nanosecond()).hash(&mut hasher);
        }
        let suffix = format!(".{:016x}", hasher.finish());
        let room = NAME_LEN - suffix.len();
        let object: String = self.regarding.name.chars().take(room).collect();
        object.trim_end_matches(['-', '.']).to_owned() + &suffix
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.regarding, &self.reason, &self.note).hash(&mut hasher);
        hasher.finish()
    }
}

/// Where events are put.
#[derive(Clone, Debug)]
pub struct EventSink {
    queue: Option<mpsc::Sender<Event>>,
}

impl EventSink {
    /// Only the log.
    pub const fn log_only() -> Self {
        Self { queue: None }
    }

    /// The log and the API. Sends for as long as the sink lives.
    pub fn to_api(client: Client, node_name: String) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(send_all(client, node_name, waiting));
        Self { queue: Some(queue) }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> (Self, mpsc::Receiver<Event>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue: Some(queue) }, waiting)
    }

    /// Logs the event and has it sent.
    pub fn send(&self, event: Event) {
        let Event { regarding: Regarding { kind, namespace, name }, warning, reason, note, .. } = &event;
        if *warning {
            tracing::warn!(kind, namespace, name, reason, "{note}");
        } else {
            tracing::info!(kind, namespace, name, reason, "{note}");
        }
        self.send_quietly(event);
    }

    /// Has the event sent. It is in the log already.
    pub fn send_quietly(&self, event: Event) {
        // Files of manifests are no objects of the API.
        if let Some(queue) = &self.queue
            && event.regarding.kind != "File"
            && queue.try_send(event).is_err()
        {
            tracing::debug!("too many events: this one is only logged");
        }
    }
}

async fn send_all(client: Client, node_name: String, mut waiting: mpsc::Receiver<Event>) {
    let mut sent: HashMap<u64, Instant> = HashMap::new();
    let mut tokens = BURST;
    let mut refilled = Instant::now();
    let mut refused = false;
    while let Some(event) = waiting.recv().await {
        sent.retain(|_, at| at.elapsed() < REPEAT);
        if sent.insert(event.fingerprint(), Instant::now()).is_some() {
            continue;
        }
        let earned = u32::try_from(refilled.elapsed().as_millis() / PAUSE.as_millis()).unwrap_or(BURST);
        if earned > 0 {
            tokens = tokens.saturating_add(earned).min(BURST);
            refilled = Instant::now();
        }
        if tokens == 0 {
            tokio::time::sleep(PAUSE).await;
        } else {
            tokens -= 1;
        }
        if let Err(error) = send(&client, &node_name, &event).await {
            if !std::mem::replace(&mut refused, true) {
                tracing::warn!(%error, "the API refuses events: they are only in this log, allow create of events.k8s.io");
            }
            tracing::debug!(%error, reason = event.reason, "the API refused an event");
        }
    }
}

async fn send(client: &Client, node_name: &str, event: &Event) -> Result<(), kube::Error> {
    let Regarding { kind, namespace, name } = &event.regarding;
    let uid = match *kind {
        "Service" => uid::<Service>(client, namespace, name).await,
        "EndpointSlice" => uid::<EndpointSlice>(client, namespace, name).await,
        // By custom a Node's events carry its name as uid: that is where kubectl looks.
        _ => Some(name.clone()),
    };
    let now = Timestamp::now();
    // Objects without a namespace have their events in this one.
    let home = if namespace.is_empty() { "default" } else { namespace };
    let body = ApiEvent {
        metadata: ObjectMeta {
            name: Some(event.object_name(node_name, now)),
            namespace: Some(home.to_owned()),
            ..ObjectMeta::default()
        },
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
        event_time: Some(MicroTime(now)),
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

fn cut(note: &str) -> String {
    if note.len() < NOTE_LEN {
        return note.to_owned();
    }
    let mut cut: String = note.chars().take(NOTE_LEN / 4 - 1).collect();
    cut.push('…');
    cut
}

/// Which refusals are new: one event for each object.
#[derive(Debug, Default)]
pub struct RefusalWatch {
    known: HashMap<u64, u64>,
    round: u64,
}

impl RefusalWatch {
    /// The full current set. Gives one warning for each object with a new refusal.
    pub fn news<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal>) -> Vec<Event> {
        self.round += 1;
        let mut news: Vec<&Refusal> = Vec::new();
        for refusal in refusals {
            let mut hasher = DefaultHasher::new();
            refusal.hash(&mut hasher);
            if self.known.insert(hasher.finish(), self.round).is_none() {
                news.push(refusal);
            }
        }
        self.known.retain(|_, round| *round == self.round);
        news.sort_unstable();
        let same_object = |a: &&Refusal, b: &&Refusal| (a.kind, &a.object) == (b.kind, &b.object);
        news.chunk_by(same_object).filter_map(one_event).collect()
    }
}

fn one_event(rows: &[&Refusal]) -> Option<Event> {
    let first = rows.first()?;
    let (namespace, name) = match first.object.split_once('/') {
        Some(parts) if first.kind != "File" => parts,
        _ => ("", first.object.as_str()),
    };
    let messages: Vec<&str> = rows.iter().map(|row| row.message.as_str()).collect();
    let regarding = Regarding::object(first.kind, namespace, name);
    let everywhere = !rows.iter().any(|row| row.reason.is_of_this_node());
    Some(Event { everywhere, ..Event::warning(regarding, first.reason.name(), "Serve", messages.join("; ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reason::Reason;

    fn refusal(object: &str, reason: Reason) -> Refusal {
        Refusal { kind: "Service", object: object.to_owned(), reason, message: format!("{reason} is wrong") }
    }

    #[test]
    fn each_refused_object_gets_one_event_until_it_was_served() {
        let mut watch = RefusalWatch::default();
        let both =
            [refusal("a/x", Reason::BadPort), refusal("a/y", Reason::BadPort), refusal("a/x", Reason::BadAddress)];
        let events = watch.news(both.iter());
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].note, "BadAddress is wrong; BadPort is wrong");
        assert_eq!(events[1].regarding, Regarding::object("Service", "a", "y"));
        assert!(watch.news(both.iter()).is_empty());
        assert!(watch.news(both[..1].iter()).is_empty());
        assert_eq!(watch.news(both.iter()).len(), 2);
    }

    #[test]
    fn what_every_node_finds_has_one_name_on_all_and_the_rest_has_its_own() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let event = |reason| one_event(&[&refusal("a/x", reason)]).unwrap();
        let of_object = event(Reason::BadAddress);
        assert_eq!(of_object.object_name("n1", at(6_000)), of_object.object_name("n2", at(6_599)));
        assert_ne!(of_object.object_name("n1", at(6_000)), of_object.object_name("n1", at(6_600)));
        assert_ne!(of_object.object_name("n1", at(6_000)), event(Reason::BadPort).object_name("n1", at(6_000)));
        let of_node = event(Reason::MapFull);
        assert_ne!(of_node.object_name("n1", at(6_000)), of_node.object_name("n2", at(6_000)));
        let both = [refusal("a/x", Reason::BadAddress), refusal("a/x", Reason::MapFull)];
        assert!(!one_event(&both.iter().collect::<Vec<_>>()).unwrap().everywhere);
    }

    #[test]
    fn a_long_object_name_leaves_room_for_the_events_own() {
        let name = format!("{}-{}", "a".repeat(235), "b".repeat(17));
        let event = Event::warning(Regarding::object("EndpointSlice", "n", &name), "R", "Serve", String::new());
        let given = event.object_name("n1", Timestamp::now());
        assert!(given.len() <= NAME_LEN && given.starts_with("aaa") && !given.contains("-."), "{given}");
    }

    #[test]
    fn a_long_note_is_cut_to_what_the_api_takes() {
        assert!(cut(&"ü".repeat(5000)).len() <= NOTE_LEN);
        assert_eq!(cut("short"), "short");
    }
}
