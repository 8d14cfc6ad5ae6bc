//! One kind of object: listed, then watched, as source events.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use crate::causes::with_causes;
use crate::kube::Observer;
use crate::kube::backoff::Backoff;
use crate::model::event::{Kind, Object, SourceEvent};
use crate::source::objects::{ApiObject, Scope, Selector, Wait, for_each_kind};

/// A watch is asked for anew this often: how long a dead connection goes unnoticed at most.
const WATCH_SECS: u32 = 90;
/// How long everything else waits for the Node, which may not be there or not be readable.
const NODE_GRACE: Duration = Duration::from_secs(10);
const HTTP_GONE: u16 = 410;
const HTTP_FORBIDDEN: u16 = 403;
const HTTP_NOT_FOUND: u16 = 404;

/// The cluster's version, which is waited for like a kind. Kinds have the lower bits.
const VERSION: u8 = 1 << 7;

/// What the watches have in common: where events go, and which kinds were listed.
#[derive(Debug)]
pub(super) struct Progress {
    events: Sender<SourceEvent>,
    observer: Observer,
    /// A bit for each kind.
    listed: AtomicU8,
    synced: AtomicBool,
    changed: Notify,
    /// Kinds without which nothing is served.
    needed: u8,
    /// Kinds that are waited for as well, for a while.
    hoped_for: u8,
}

const fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

/// The bits of all kinds that are asked for and that everything waits for like this.
fn bits(scope: &Scope<'_>, is_meant: impl Fn(Wait) -> bool) -> u8 {
    let mut bits = 0;
    macro_rules! add_bit {
        ($api:ty) => {
            if is_meant(<$api>::WAIT) && <$api>::selector(scope).is_some() {
                bits |= bit(<$api as ApiObject>::KIND);
            }
        };
    }
    for_each_kind!(add_bit);
    bits
}

impl Progress {
    pub(super) fn new(events: Sender<SourceEvent>, observer: Observer, scope: &Scope<'_>, version: bool) -> Self {
        Self {
            events,
            observer,
            listed: AtomicU8::new(0),
            synced: AtomicBool::new(false),
            changed: Notify::new(),
            needed: bits(scope, |wait| wait == Wait::Always),
            hoped_for: bits(scope, |wait| matches!(wait, Wait::Briefly | Wait::Hoped { .. }))
                | if version { VERSION } else { 0 },
        }
    }

    async fn send(&self, event: SourceEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    async fn list_is_done(&self, kind: Kind) -> bool {
        self.is_done(bit(kind)).await
    }

    /// The cluster is of this version.
    pub(super) async fn version_is(&self, version: (u32, u32)) -> bool {
        self.send(SourceEvent::Version(version)).await && self.is_done(VERSION).await
    }

    async fn is_done(&self, bit: u8) -> bool {
        let listed = self.listed.fetch_or(bit, Ordering::SeqCst) | bit;
        self.changed.notify_one();
        let all = self.needed | self.hoped_for;
        listed & all != all || self.send_synced().await
    }

    async fn send_synced(&self) -> bool {
        self.synced.swap(true, Ordering::SeqCst) || self.send(SourceEvent::Synced).await
    }

    fn missing(&self, bits: u8) -> bool {
        self.listed.load(Ordering::SeqCst) & bits != bits
    }
}

/// Goes on without the Node when it does not come.
pub(super) async fn node_grace(progress: Arc<Progress>) {
    while progress.missing(progress.needed) {
        progress.changed.notified().await;
    }
    tokio::time::sleep(NODE_GRACE).await;
    if progress.missing(progress.hoped_for) {
        if progress.missing(bit(Kind::Node)) {
            tracing::warn!(
                "cannot read this node's Node object: its zone and Pod ranges are not used, allow get, list and watch of nodes"
            );
        }
        if progress.missing(progress.hoped_for & VERSION) {
            tracing::warn!("cannot read the cluster's version: externalIPs are served until it is known");
        }
        progress.send_synced().await;
    }
}

/// Follows one kind until nobody listens any more.
pub(super) async fn follow<K: ApiObject>(api: Api<K>, selector: Selector, progress: Arc<Progress>) {
    let kind = <K as ApiObject>::KIND;
    let config = match selector {
        Selector::All => watcher::Config::default(),
        Selector::Labels(labels) => watcher::Config::default().labels(labels),
        Selector::Fields(fields) => watcher::Config::default().fields(&fields),
    };
    let config = config.timeout(WATCH_SECS);
    let mut delays = Backoff::new();
    let mut logged = String::new();
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
                    list.push(object.into_object());
                    continue;
                }
                Ok(watcher::Event::InitDone) => SourceEvent::Replace(kind, std::mem::take(&mut list)),
                Ok(watcher::Event::Apply(object)) => SourceEvent::Apply(object.into_object()),
                Ok(watcher::Event::Delete(object)) => {
                    let object = object.into_object();
                    SourceEvent::Delete {
                        kind,
                        namespace: object.namespace().to_owned(),
                        name: object.name().to_owned(),
                    }
                }
                Err(error) => {
                    let text = with_causes(&error);
                    match K::WAIT {
                        Wait::Never { instead } if is_unknown(&error) => {
                            tracing::info!(kind = kind.name(), "the API server does not have this kind: {instead}");
                            // That is an answer, too.
                            progress.send(SourceEvent::Replace(kind, Vec::new())).await;
                            return;
                        }
                        // Services are served without it: no reason to count as disconnected.
                        Wait::Never { instead } | Wait::Hoped { instead } if logged != text => {
                            tracing::warn!(kind = kind.name(), error = %text, "cannot read this kind: {instead}");
                            logged = text;
                        }
                        Wait::Never { .. } | Wait::Hoped { .. } => {}
                        Wait::Always | Wait::Briefly => {
                            progress.observer.watch_failed(&K::plural(&()), format!("{}: {text}", kind.name()));
                        }
                    }
                    // Who may not read it goes on without it at once.
                    if matches!(K::WAIT, Wait::Hoped { .. })
                        && is_forbidden(&error)
                        && !progress.list_is_done(kind).await
                    {
                        return;
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

/// A watch that is refused with "gone" would be asked for with the same version again and again. (Gone in the middle of a watch
/// is handled by the watcher itself.)
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == HTTP_GONE)
}

/// Whether the kind may not be listed.
fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == HTTP_FORBIDDEN)
}

/// Whether the server has no such kind at all.
fn is_unknown(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == HTTP_NOT_FOUND)
}
