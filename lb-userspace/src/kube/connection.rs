//! Whether the API answers, for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Uri;
use tokio::sync::watch;
use tokio::time::Instant;

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
    /// What is wrong; none when it is over.
    pub last_error: Option<ApiError>,
}

/// Something that is wrong with the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What.
    pub text: String,
    /// Since when the API has failed, whatever the cause.
    pub since: SystemTime,
}

/// While the API fails, the log says so this often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Notes what happens on the connection.
#[derive(Clone, Debug)]
pub struct Observer(Arc<State>);

#[derive(Debug)]
struct State {
    now: watch::Sender<Connection>,
    /// Resources that cannot be watched at the moment, and why.
    failing: Mutex<BTreeMap<String, String>>,
    requests: Option<Arc<dyn RequestLog>>,
    /// When the log last said that the API fails.
    said: Mutex<Option<Instant>>,
}

impl Observer {
    /// `requests`: where they are counted.
    pub fn new(requests: Option<Arc<dyn RequestLog>>) -> (Self, watch::Receiver<Connection>) {
        let (now, seen) = watch::channel(Connection::default());
        (Self(Arc::new(State { now, failing: Mutex::default(), requests, said: Mutex::default() })), seen)
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
            let news = now.connected != connected || now.server != server || (connected && now.last_error.is_some());
            if news && connected {
                tracing::info!(server, "connected to the Kubernetes API");
            }
            if connected {
                now.last_error = None;
                *self.0.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        self.fails(error);
    }

    /// A resource cannot be listed or watched.
    pub fn watch_failed(&self, resource: &str, error: String) {
        self.failing(|failing| failing.insert(resource.to_owned(), error.clone()));
        self.fails(error);
    }

    /// Several requests fail for several reasons, again and again: a line a minute is enough, and the report has the
    /// first reason until things are well.
    fn fails(&self, error: String) {
        if self.is_to_be_said() {
            tracing::warn!(%error, "the Kubernetes API fails: the last known state stays in force");
        } else {
            tracing::debug!(%error, "the Kubernetes API fails");
        }
        self.0.now.send_if_modified(|now| {
            let changed = now.connected || now.last_error.is_none();
            now.connected = false;
            now.last_error.get_or_insert_with(|| ApiError { text: error, since: SystemTime::now() });
            changed
        });
    }

    fn is_to_be_said(&self) -> bool {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if due {
            *said = Some(Instant::now());
        }
        due
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
        assert_eq!(seen.borrow().last_error.as_ref().unwrap().text, "EndpointSlice: forbidden");
        observer.watch_established("endpointslices", "https://one");
        assert!(seen.borrow().connected);
        assert_eq!(seen.borrow().last_error, None, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_is_away_is_one_line_a_minute_and_one_change_of_the_report() {
        let (observer, mut seen) = Observer::new(None);
        observer.answered("https://one");
        seen.mark_unchanged();
        let mut lines = 0;
        for second in 0..600 {
            for reason in ["refused", "timed out", "no route"] {
                observer.watch_failed(reason, format!("{reason} {second}"));
                lines += usize::from(observer.0.said.lock().unwrap().is_some_and(|said| said == Instant::now()));
            }
            assert_eq!(seen.has_changed().unwrap(), second == 0);
            seen.mark_unchanged();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Three failures in the second in which it is said.
        assert_eq!(lines, 30);
        let error = seen.borrow().last_error.clone().unwrap();
        assert_eq!(error.text, "refused 0");
        for reason in ["refused", "timed out", "no route"] {
            observer.watch_established(reason, "https://one");
        }
        assert_eq!(*seen.borrow(), Connection { connected: true, server: "https://one".into(), last_error: None });
    }
}
