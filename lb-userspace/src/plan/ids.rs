//! Hands out small integer ids, the lowest unused first, and never one that was freed in the same batch. Tables that are
//! indexed by them may be shorter than there are ids, such as the counters: ids stay as low as what is in use is few.

use std::collections::BTreeSet;

/// Ids `1..limit`.
#[derive(Debug)]
pub(crate) struct IdPool {
    limit: u32,
    next: u32,
    /// Unused ids below `next`.
    free: BTreeSet<u32>,
    resting: Vec<u32>,
}

impl IdPool {
    /// All ids from 1 up to, not including, `limit`, without those in use.
    pub(crate) fn new(limit: u32, used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(1, |last| last.saturating_add(1));
        let mut free = BTreeSet::new();
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
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        if self.next >= self.limit {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Gives an id back; it rests until [`IdPool::release`].
    pub(crate) fn put(&mut self, id: u32) {
        // Somebody else may have written what has another one.
        if (1..self.limit).contains(&id) {
            self.resting.push(id);
        }
    }

    /// Gives an id back under which nothing was written: it may be used at once.
    pub(crate) fn cancel(&mut self, id: u32) {
        self.free.insert(id);
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
    fn ids_stay_low_however_many_come_and_go() {
        let mut pool = IdPool::new(1 << 20, &BTreeSet::new());
        let mut used: Vec<u32> = (0..100).map(|_| pool.take().unwrap()).collect();
        for round in 0..10_000 {
            pool.release();
            let fresh = pool.take().unwrap();
            pool.put(std::mem::replace(&mut used[round % 100], fresh));
        }
        assert!(used.iter().all(|id| *id <= 102), "{used:?}");
        // Also after a restart, when a crowd has gone.
        let mut pool = IdPool::new(1 << 20, &BTreeSet::from([1, 2, 90_000]));
        assert_eq!((pool.take(), pool.take()), (Some(3), Some(4)));
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
