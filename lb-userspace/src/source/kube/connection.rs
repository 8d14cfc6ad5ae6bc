//! Whether the API answers, for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;

use crate::metrics::RestClientMetrics;
use crate::source::Kind;

/// State of the connection to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The API answers, and every watch that has failed is established again.
    pub connected: bool,
    /// URL of the API server in use.
    pub server: String,
    /// What went wrong last; kept after things are well again.
    pub last_error: Option<String>,
}

/// Notes what happens on the connection.
#[derive(Clone, Debug)]
pub(super) struct Observer(Arc<State>);

#[derive(Debug)]
struct State {
    now: watch::Sender<Connection>,
    /// What cannot be read at the moment, and why.
    failing: Mutex<BTreeMap<Kind, String>>,
    requests: Option<RestClientMetrics>,
}

impl Observer {
    /// `requests`: where they are counted.
    pub(super) fn new(requests: Option<RestClientMetrics>) -> (Self, watch::Receiver<Connection>) {
        let (now, seen) = watch::channel(Connection::default());
        (Self(Arc::new(State { now, failing: Mutex::default(), requests })), seen)
    }

    /// A request to a server has ended. `took`: none for a watch.
    pub(super) fn asked(&self, method: &str, server: &str, code: Option<u16>, took: Option<Duration>) {
        let Some(requests) = &self.0.requests else { return };
        let uri: Option<Uri> = server.parse().ok();
        let host = uri.as_ref().and_then(Uri::authority).map_or(server, |authority| authority.as_str());
        requests.asked(method, host, code, took);
    }

    /// A server has answered.
    pub(super) fn answered(&self, server: &str) {
        let connected = self.failing(|failing| failing.is_empty());
        self.0.now.send_if_modified(|now| {
            let news = now.connected != connected || now.server != server;
            if news && connected {
                tracing::info!(server, "connected to the Kubernetes API");
            }
            now.connected = connected;
            server.clone_into(&mut now.server);
            news
        });
    }

    /// A watch of this kind is established.
    pub(super) fn watches(&self, kind: Kind, server: &str) {
        if self.failing(|failing| failing.remove(&kind)).is_some() {
            self.answered(server);
        }
    }

    /// A server cannot be reached, or is not well.
    pub(super) fn failed(&self, error: String) {
        self.fails(error, true);
    }

    /// A kind cannot be read.
    pub(super) fn kind_failed(&self, kind: Kind, error: &str) {
        let error = format!("{}: {error}", kind.name());
        let news = self.failing(|failing| failing.insert(kind, error.clone())).as_ref() != Some(&error);
        self.fails(error, news);
    }

    fn fails(&self, error: String, news: bool) {
        self.0.now.send_if_modified(|now| {
            let changed = now.connected || now.last_error.as_ref() != Some(&error);
            if changed && news {
                tracing::warn!(%error, "the Kubernetes API fails: the last known state stays in force");
            }
            now.connected = false;
            now.last_error = Some(error);
            changed
        });
    }

    fn failing<T>(&self, f: impl FnOnce(&mut BTreeMap<Kind, String>) -> T) -> T {
        f(&mut self.0.failing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_cannot_be_watched_counts_as_disconnected_whatever_else_is_answered() {
        let (observer, seen) = Observer::new(None);
        observer.answered("https://one");
        assert!(seen.borrow().connected);
        observer.kind_failed(Kind::EndpointSlice, "forbidden");
        observer.answered("https://one");
        observer.watches(Kind::Service, "https://one");
        assert!(!seen.borrow().connected);
        assert_eq!(seen.borrow().last_error.as_deref(), Some("EndpointSlice: forbidden"));
        observer.watches(Kind::EndpointSlice, "https://one");
        assert!(seen.borrow().connected);
    }
}
