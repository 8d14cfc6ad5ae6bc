//! Hands out small integer ids, the longest unused first, and never one that was freed in the same batch.

use std::collections::{BTreeSet, VecDeque};

/// Ids `1..limit`.
#[derive(Debug)]
pub(crate) struct IdPool {
    limit: u32,
    next: u32,
    free: VecDeque<u32>,
    resting: Vec<u32>,
}

impl IdPool {
    /// All ids from 1 up to, not including, `limit`, without those in use.
    pub(crate) fn new(limit: u32, used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(1, |last| last.saturating_add(1));
        let mut free = VecDeque::new();
        let mut expected = 1;
        for &id in used {
            free.extend(expected..id);
            expected = id.saturating_add(1);
        }
        Self { limit, next, free, resting: Vec::new() }
    }

    /// Ids that [`IdPool::take`] could hand out now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + usize::try_from(self.limit.saturating_sub(self.next)).unwrap_or(usize::MAX)
    }

    /// An unused id.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.next < self.limit {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    /// Gives an id back; it rests until [`IdPool::release`].
    pub(crate) fn put(&mut self, id: u32) {
        self.resting.push(id);
    }

    /// A new batch begins: whatever rested may be used again.
    pub(crate) fn release(&mut self) {
        self.free.extend(self.resting.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_id_is_not_handed_out_before_the_next_batch() {
        let mut pool = IdPool::new(3, &BTreeSet::new());
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(1), Some(2), None));
        pool.put(1);
        assert_eq!(pool.take(), None);
        pool.release();
        assert_eq!((pool.take(), pool.take()), (Some(1), None));
    }

    #[test]
    fn restored_pool_hands_out_only_gaps_and_the_tail() {
        let mut pool = IdPool::new(7, &BTreeSet::from([2, 4]));
        assert_eq!(pool.available(), 4);
        let mut all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 3, 5, 6]);
    }
}
