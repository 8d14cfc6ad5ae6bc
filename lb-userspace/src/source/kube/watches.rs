//! One kind of object: listed, then watched, as source events.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use crate::causes::with_causes;
use crate::kube::Observer;
use crate::kube::backoff::Backoff;
use crate::source::{Kind, Object, SourceEvent};

/// A watch is asked for anew this often: what a connection that died in silence costs at most.
const WATCH_SECS: u32 = 90;
/// How long everything else waits for the Node, which may not be there or not be readable.
const NODE_GRACE: Duration = Duration::from_secs(10);
const HTTP_GONE: u16 = 410;
const HTTP_NOT_FOUND: u16 = 404;

/// What the watches have in common: where events go, and which kinds were listed.
#[derive(Debug)]
pub(super) struct Progress {
    events: Sender<SourceEvent>,
    observer: Observer,
    listed: AtomicU8,
    changed: Notify,
}

const SERVICES: u8 = 1;
const SLICES: u8 = 2;
const NODE: u8 = 4;
const SAID: u8 = 8;

impl Progress {
    pub(super) fn new(events: Sender<SourceEvent>, observer: Observer) -> Self {
        Self { events, observer, listed: AtomicU8::new(0), changed: Notify::new() }
    }

    async fn send(&self, event: SourceEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    async fn list_is_done(&self, kind: Kind) -> bool {
        let bit = match kind {
            Kind::Service => SERVICES,
            Kind::EndpointSlice => SLICES,
            Kind::Node => NODE,
            // Nothing has to wait for it.
            Kind::ServiceCidr => return true,
        };
        let before = self.listed.fetch_or(bit, Ordering::SeqCst);
        self.changed.notify_one();
        before | bit != SERVICES | SLICES | NODE || self.say_synced().await
    }

    async fn say_synced(&self) -> bool {
        if self.listed.fetch_or(SAID, Ordering::SeqCst) & SAID == 0 {
            self.send(SourceEvent::Synced).await
        } else {
            true
        }
    }
}

/// Goes on without the Node when it does not come.
pub(super) async fn node_grace(progress: Arc<Progress>) {
    while progress.listed.load(Ordering::SeqCst) & (SERVICES | SLICES) != SERVICES | SLICES {
        progress.changed.notified().await;
    }
    tokio::time::sleep(NODE_GRACE).await;
    if progress.listed.load(Ordering::SeqCst) & NODE == 0 {
        tracing::warn!(
            "the own Node cannot be read: going on without its zone and Pod ranges, allow get, list and watch of nodes"
        );
        progress.say_synced().await;
    }
}

/// Follows one kind until nobody listens any more.
pub(super) async fn follow<K>(api: Api<K>, config: watcher::Config, kind: Kind, progress: Arc<Progress>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    Object: From<K>,
{
    let config = config.timeout(WATCH_SECS);
    let mut delays = Backoff::new();
    let mut said = String::new();
    loop {
        let mut stream = pin!(watcher(api.clone(), config.clone()).backoff(Backoff::new()));
        let mut list: Vec<Object> = Vec::new();
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(watcher::Event::Init) => {
                    list.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    list.push(object.into());
                    continue;
                }
                Ok(watcher::Event::InitDone) => SourceEvent::Replace(kind, std::mem::take(&mut list)),
                Ok(watcher::Event::Apply(object)) => SourceEvent::Apply(object.into()),
                Ok(watcher::Event::Delete(object)) => {
                    let object = Object::from(object);
                    SourceEvent::Delete {
                        kind,
                        namespace: object.namespace().to_owned(),
                        name: object.name().to_owned(),
                    }
                }
                Err(error) if kind == Kind::ServiceCidr && is_unknown(&error) => {
                    tracing::info!("the API server knows no ServiceCIDRs: give --service-cidr instead");
                    return;
                }
                Err(error) => {
                    let text = with_causes(&error);
                    if kind != Kind::ServiceCidr {
                        let resource = K::plural(&());
                        progress.observer.watch_failed(&resource, format!("{}: {text}", kind.name()));
                    } else if said != text {
                        // Services are served without it: no reason to count as disconnected.
                        tracing::warn!(error = %text, "the range of ClusterIPs cannot be read");
                        said = text;
                    }
                    if is_gone(&error) {
                        // History is lost and the watch cannot begin where it ended: list anew.
                        break;
                    }
                    continue;
                }
            };
            let listed = matches!(event, SourceEvent::Replace(..));
            if !progress.send(event).await || (listed && !progress.list_is_done(kind).await) {
                return;
            }
        }
        tokio::time::sleep(delays.next().unwrap_or_default()).await;
    }
}

/// A watch that is refused with "gone" would be asked for with the same version for ever. (Gone in the middle of a watch
/// is handled by the watcher itself.)
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == HTTP_GONE)
}

/// Whether the server has no such kind at all.
fn is_unknown(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == HTTP_NOT_FOUND)
}
