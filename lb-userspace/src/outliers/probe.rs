//! Asks backends whether they answer: a plain TCP connection to the backend's own address, closed at once.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Probes at a time.
const AT_ONCE: usize = 32;

/// Probes that are under way, of backends that are known by `K`.
#[derive(Debug)]
pub(super) struct Probes<K> {
    send: UnboundedSender<(K, bool)>,
    answers: UnboundedReceiver<(K, bool)>,
    under_way: usize,
}

impl<K> Default for Probes<K> {
    fn default() -> Self {
        let (send, answers) = unbounded_channel();
        Self { send, answers, under_way: 0 }
    }
}

impl<K: Send + 'static> Probes<K> {
    /// Begins a probe. False: too many are under way, or nobody can carry it out.
    pub(super) fn begin(&mut self, of: K, addr: SocketAddr) -> bool {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
        if self.under_way >= AT_ONCE {
            return false;
        }
        self.under_way += 1;
        let send = self.send.clone();
        runtime.spawn(async move {
            let answers = answers(addr).await;
            // Refused, nobody waits for it any more.
            let _ended = send.send((of, answers));
        });
        true
    }

    /// An answer, or that there was none.
    pub(super) fn next(&mut self) -> Option<(K, bool)> {
        let next = self.answers.try_recv().ok()?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(next)
    }
}

/// Whether somebody answers there. A refusal is an answer.
async fn answers(addr: SocketAddr) -> bool {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(addr)).await {
        Ok(Ok(_connected)) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Err(_elapsed) => false,
    }
}
