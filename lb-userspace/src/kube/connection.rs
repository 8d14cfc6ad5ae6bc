//! Whether the API answers, for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;

/// Where requests to the API are counted.
pub trait RequestLog: std::fmt::Debug + Send + Sync {
    /// A request has ended. `code`: none without an answer. `took`: none for a watch, whose length says nothing.
    fn ended(&self, method: &str, host: &str, code: Option<u16>, took: Option<Duration>);
}

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
pub struct Observer(Arc<State>);

#[derive(Debug)]
struct State {
    now: watch::Sender<Connection>,
    /// Resources that cannot be watched at the moment, and why.
    failing: Mutex<BTreeMap<String, String>>,
    requests: Option<Arc<dyn RequestLog>>,
}

impl Observer {
    /// `requests`: where they are counted.
    pub fn new(requests: Option<Arc<dyn RequestLog>>) -> (Self, watch::Receiver<Connection>) {
        let (now, seen) = watch::channel(Connection::default());
        (Self(Arc::new(State { now, failing: Mutex::default(), requests })), seen)
    }

    /// A request to a server has ended. `took`: none for a watch.
    pub fn asked(&self, method: &str, server: &str, code: Option<u16>, took: Option<Duration>) {
        let Some(requests) = &self.0.requests else { return };
        let uri: Option<Uri> = server.parse().ok();
        let host = uri.as_ref().and_then(Uri::authority).map_or(server, |authority| authority.as_str());
        requests.ended(method, host, code, took);
    }

    /// A server has answered.
    pub fn answered(&self, server: &str) {
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

    /// A watch of this resource is established.
    pub fn watch_established(&self, resource: &str, server: &str) {
        if self.failing(|failing| failing.remove(resource)).is_some() {
            self.answered(server);
        }
    }

    /// A server cannot be reached, or is not well.
    pub fn failed(&self, error: String) {
        self.fails(error, true);
    }

    /// A resource cannot be listed or watched.
    pub fn watch_failed(&self, resource: &str, error: String) {
        let before = self.failing(|failing| failing.insert(resource.to_owned(), error.clone()));
        let news = before.as_ref() != Some(&error);
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

    fn failing<T>(&self, f: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        f(&mut self.0.failing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_cannot_be_watched_counts_as_disconnected_whatever_else_is_answered() {
        let (observer, seen) = Observer::new(None);
        observer.answered("https://one");
        assert!(seen.borrow().connected);
        observer.watch_failed("endpointslices", "EndpointSlice: forbidden".into());
        observer.answered("https://one");
        observer.watch_established("services", "https://one");
        assert!(!seen.borrow().connected);
        assert_eq!(seen.borrow().last_error.as_deref(), Some("EndpointSlice: forbidden"));
        observer.watch_established("endpointslices", "https://one");
        assert!(seen.borrow().connected);
    }
}
