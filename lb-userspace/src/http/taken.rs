//! Which of the agent's own ports somebody else has.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use tokio::sync::watch;

/// By address: what the port is for and why it cannot be opened. Written by those that listen, read for the report.
#[derive(Clone, Debug, Default)]
pub struct TakenPorts(watch::Sender<BTreeMap<SocketAddr, String>>);

impl TakenPorts {
    /// An address cannot be listened on.
    pub fn failed(&self, addr: SocketAddr, what: &str, error: &io::Error) {
        let why = format!("{addr} for {what}: {error}");
        self.0.send_if_modified(|taken| taken.insert(addr, why.clone()).as_ref() != Some(&why));
    }

    /// It is open now, or not wanted any more.
    pub fn settled(&self, addr: SocketAddr) {
        self.0.send_if_modified(|taken| taken.remove(&addr).is_some());
    }

    /// Follows them.
    pub fn follow(&self) -> watch::Receiver<BTreeMap<SocketAddr, String>> {
        self.0.subscribe()
    }
}
