//! The open connections of a server, and which one goes when there are too many: nobody can keep others out by being
//! there first.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// How many connections a server has at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all peers.
    pub all: usize,
    /// Of one peer: an IPv4 address, or the 64 bits of an IPv6 address that its holder cannot choose.
    pub per_peer: usize,
}

/// Whether a connection is in the middle of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    pub(super) fn set(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Connection {
    peer: IpAddr,
    busy: Busy,
    task: AbortHandle,
}

/// The oldest first. Dropped, all end.
pub(super) struct Connections {
    limits: Limits,
    open: VecDeque<Connection>,
    tasks: JoinSet<()>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: VecDeque::new(), tasks: JoinSet::new() }
    }

    /// Serves one more. Where that is one too many, another one goes: of the same peer if it has its share, else of any.
    pub(super) fn admit(&mut self, peer: IpAddr, busy: Busy, conversation: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|connection| !connection.task.is_finished());
        let peer = group(peer);
        if self.open.iter().filter(|connection| connection.peer == peer).count() >= self.limits.per_peer {
            self.close_one(|connection| connection.peer == peer);
        }
        if self.open.len() >= self.limits.all {
            self.close_one(|_| true);
        }
        let task = self.tasks.spawn(conversation);
        self.open.push_back(Connection { peer, busy, task });
    }

    /// Closes the one that has been idle the longest, or the oldest if none is idle.
    fn close_one(&mut self, candidate: impl Fn(&Connection) -> bool) {
        let idle = self.open.iter().position(|connection| candidate(connection) && !connection.busy.is_set());
        let index = idle.or_else(|| self.open.iter().position(&candidate));
        if let Some(connection) = index.and_then(|index| self.open.remove(index)) {
            connection.task.abort();
        }
    }
}

fn group(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn peers(connections: &Connections) -> Vec<String> {
        connections.open.iter().map(|connection| connection.peer.to_string()).collect()
    }

    fn admit(connections: &mut Connections, peer: &str, busy: bool) {
        let state = Busy::default();
        state.set(busy);
        connections.admit(peer.parse().unwrap(), state, pending());
    }

    #[tokio::test]
    async fn a_peers_own_connections_go_first_and_idle_ones_before_busy_ones() {
        let mut connections = Connections::new(Limits { all: 4, per_peer: 2 });
        for (peer, busy) in [("192.0.2.1", true), ("::ffff:192.0.2.1", false), ("192.0.2.1", false)] {
            admit(&mut connections, peer, busy);
        }
        assert!(connections.open[0].busy.is_set(), "the busy one stays");
        assert_eq!(peers(&connections), ["192.0.2.1"; 2]);
        for peer in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
            admit(&mut connections, peer, false);
        }
        assert_eq!(peers(&connections), ["192.0.2.1", "192.0.2.1", "2001:db8::", "2001:db8::"]);
        admit(&mut connections, "192.0.2.2", false);
        assert_eq!(peers(&connections), ["192.0.2.1", "2001:db8::", "2001:db8::", "192.0.2.2"]);
        for busy in &connections.open {
            busy.busy.set(true);
        }
        admit(&mut connections, "192.0.2.3", false);
        assert_eq!(peers(&connections), ["2001:db8::", "2001:db8::", "192.0.2.2", "192.0.2.3"], "the oldest");
    }

    #[tokio::test]
    async fn what_has_ended_does_not_count() {
        let mut connections = Connections::new(Limits { all: 2, per_peer: 2 });
        admit(&mut connections, "192.0.2.1", false);
        connections.admit("192.0.2.2".parse().unwrap(), Busy::default(), async {});
        tokio::task::yield_now().await;
        admit(&mut connections, "192.0.2.3", false);
        assert_eq!(peers(&connections), ["192.0.2.1", "192.0.2.3"]);
    }
}
