//! When to try again what could not be written.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);

/// A pause that grows from try to try.
#[derive(Debug)]
pub(super) struct Retry {
    pause: Duration,
    at: Option<Instant>,
}

impl Retry {
    pub(super) const fn new() -> Self {
        Self { pause: FIRST, at: None }
    }

    /// Nothing is left to try.
    pub(super) const fn reset(&mut self) {
        *self = Self::new();
    }

    /// Whether the pause is over.
    pub(super) fn is_due(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// It was tried. After a pause that was over the next one is longer.
    pub(super) fn tried(&mut self) {
        if self.is_due() {
            self.pause = (self.pause * 2).min(LAST);
        }
        self.at = None;
    }

    /// Something is left to try: the pause begins, if none has.
    pub(super) fn schedule(&mut self) {
        self.at.get_or_insert_with(|| Instant::now() + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_begin_anew_when_all_is_written() {
        let mut retry = Retry::new();
        for secs in [1, 2, 4, 8, 16, 30, 30] {
            retry.schedule();
            tokio::time::advance(Duration::from_millis(secs * 1000 - 1)).await;
            retry.schedule();
            assert!(!retry.is_due(), "{secs}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(retry.is_due(), "{secs}");
            retry.tried();
            assert!(!retry.is_due());
        }
        retry.reset();
        retry.schedule();
        tokio::time::advance(FIRST).await;
        assert!(retry.is_due());
    }
}
