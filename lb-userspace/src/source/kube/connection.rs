//! Whether the API answers, for `status`.

use std::sync::Arc;

use tokio::sync::watch;

/// State of the connection to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The last request was answered, and no watch has failed since.
    pub connected: bool,
    /// URL of the API server in use.
    pub server: String,
    /// What went wrong last; kept after things are well again.
    pub last_error: Option<String>,
}

/// Notes what happens on the connection.
#[derive(Clone, Debug)]
pub(super) struct Observer(Arc<watch::Sender<Connection>>);

impl Observer {
    pub(super) fn new() -> (Self, watch::Receiver<Connection>) {
        let (tx, rx) = watch::channel(Connection::default());
        (Self(Arc::new(tx)), rx)
    }

    pub(super) fn answered(&self, server: &str) {
        self.0.send_if_modified(|now| {
            let news = !now.connected || now.server != server;
            if news {
                tracing::info!(server, "connected to the Kubernetes API");
                now.connected = true;
                server.clone_into(&mut now.server);
            }
            news
        });
    }

    pub(super) fn failed(&self, error: String) {
        self.0.send_if_modified(|now| {
            if now.connected || now.last_error.as_ref() != Some(&error) {
                tracing::warn!(%error, "the Kubernetes API fails: the last known state stays in force");
            }
            let news = now.connected || now.last_error.as_ref() != Some(&error);
            now.connected = false;
            now.last_error = Some(error);
            news
        });
    }
}
