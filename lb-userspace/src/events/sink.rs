//! Where events are put: each is logged, and waits for the API where there is one.

use kube::Client;
use tokio::sync::mpsc;

use super::event::{Event, Regarding};
use super::sender::Sender;

/// Events that wait to be sent; further ones are only logged.
const WAITING: usize = 256;

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
        tokio::spawn(Sender::new(client, node_name).send_all(waiting));
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
