//! When a node looks after an event that every node finds: seldom enough that the nodes of a cluster together ask the API
//! a few times a second, however many they are.

use std::time::Duration;

/// A node's share of time: with this between the nodes' requests they make 50 a second together.
const EACH_NODE: Duration = Duration::from_millis(20);
/// Between two events of one node, on average.
const AT_LEAST: Duration = Duration::from_millis(250);
const AT_MOST: Duration = Duration::from_secs(30);

/// How long to wait before the next event, on average, in a cluster of so many nodes.
pub(super) fn mean(nodes: u32) -> Duration {
    EACH_NODE.saturating_mul(nodes).clamp(AT_LEAST, AT_MOST)
}

/// How long to wait before the next event. By chance: the first of many nodes begins at once and the others find its
/// events.
pub(super) fn pause(nodes: u32) -> Duration {
    mean(nodes).mul_f64(2.0 * fastrand::f64())
}

/// Sends at most so many at once, then one each pause.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    refilled: tokio::time::Instant,
}

impl Bucket {
    const BURST: u32 = 25;
    const PAUSE: Duration = Duration::from_millis(500);

    pub(super) fn new() -> Self {
        Self { tokens: Self::BURST, refilled: tokio::time::Instant::now() }
    }

    /// Returns when one more may be sent.
    pub(super) async fn take(&mut self) {
        let earned =
            u32::try_from(self.refilled.elapsed().as_millis() / Self::PAUSE.as_millis()).unwrap_or(Self::BURST);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(Self::BURST);
            self.refilled = tokio::time::Instant::now();
        }
        if self.tokens == 0 {
            tokio::time::sleep(Self::PAUSE).await;
        } else {
            self.tokens -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_cluster_ask_some_fifty_times_a_second_together() {
        for nodes in [20, 100, 1000] {
            let per_second = f64::from(nodes) / mean(nodes).as_secs_f64();
            assert!((45.0..=100.0).contains(&per_second), "{nodes} nodes: {per_second}");
        }
        assert_eq!(mean(0), AT_LEAST);
        assert_eq!(mean(u32::MAX), AT_MOST);
        assert!((0..1000).all(|_| pause(1000) <= 2 * mean(1000)));
    }
}
