//! How long to wait before the API is asked again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use kube::runtime::utils;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// After so long without a failure the next one counts as the first.
const CALM: Duration = Duration::from_secs(30);

/// Doubles from failure to failure, half of it by chance, so that a thousand nodes do not come back at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// Before the first failure.
    pub const fn new() -> Self {
        Self { next: FIRST, last: None }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() > CALM) {
            self.next = FIRST;
        }
        self.last = Some(Instant::now());
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST);
        let chance = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
        Some(delay / 2 + delay / 2 * chance / 1000)
    }
}

impl utils::Backoff for Backoff {
    /// Does nothing: a watch that begins and fails at once says "all is well" in between.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kube::runtime::utils::Backoff as _;

    use super::*;

    #[test]
    fn delays_double_with_chance_and_are_bounded() {
        let mut backoff = Backoff::new();
        let delays: Vec<Duration> = backoff.by_ref().take(10).collect();
        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST);
        assert!(delays.iter().all(|delay| *delay <= LONGEST));
        assert!(delays[9] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next().unwrap() >= LONGEST / 2, "a beginning watch is not yet calm");
    }
}
