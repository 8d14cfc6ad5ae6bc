//! Allocates contiguous slot ranges: the smallest hole that fits, neighbours merged, freed ranges rest for a batch.

use std::collections::{BTreeMap, BTreeSet};

/// Free ranges of one slots array.
#[derive(Debug, Default)]
pub(crate) struct SlotPool {
    by_base: BTreeMap<u32, u32>,
    by_len: BTreeSet<(u32, u32)>,
    resting: Vec<(u32, u32)>,
}

impl SlotPool {
    /// An array of `limit` slots in which the ranges `(base, len)` are in use. Ranges may overlap or lie outside of it.
    pub(crate) fn new(limit: u32, used: &BTreeSet<(u32, u32)>) -> Self {
        let mut pool = Self::default();
        let mut start = 0u32;
        for &(base, len) in used {
            if base > start {
                pool.insert(start, base.min(limit).saturating_sub(start));
            }
            start = start.max(base.saturating_add(len));
        }
        pool.insert(start, limit.saturating_sub(start));
        pool
    }

    /// Slots in no range.
    pub(crate) fn free(&self) -> usize {
        let free = self.by_base.values().chain(self.resting.iter().map(|(_, len)| len));
        free.map(|len| usize::try_from(*len).unwrap_or(usize::MAX)).sum()
    }

    /// A range of `len` slots.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let &(hole, base) = self.by_len.range((len, 0)..).next()?;
        self.remove(base, hole);
        self.insert(base + len, hole - len);
        Some(base)
    }

    /// Gives a range back; it rests until [`SlotPool::release`].
    pub(crate) fn put(&mut self, base: u32, len: u32) {
        if len > 0 {
            self.resting.push((base, len));
        }
    }

    /// Gives a range back into which nothing was written: it may be used at once.
    pub(crate) fn cancel(&mut self, base: u32, len: u32) {
        self.merge(base, len);
    }

    /// A new batch begins: whatever rested may be used again.
    pub(crate) fn release(&mut self) {
        for (base, len) in std::mem::take(&mut self.resting) {
            self.merge(base, len);
        }
    }

    fn merge(&mut self, mut base: u32, mut len: u32) {
        if let Some((&before, &before_len)) = self.by_base.range(..base).next_back()
            && before + before_len == base
        {
            self.remove(before, before_len);
            base = before;
            len += before_len;
        }
        if let Some(&after_len) = self.by_base.get(&(base + len)) {
            self.remove(base + len, after_len);
            len += after_len;
        }
        self.insert(base, len);
    }

    fn insert(&mut self, base: u32, len: u32) {
        if len > 0 {
            self.by_base.insert(base, len);
            self.by_len.insert((len, base));
        }
    }

    fn remove(&mut self, base: u32, len: u32) {
        self.by_base.remove(&base);
        self.by_len.remove(&(len, base));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn freed_neighbours_become_one_hole() {
        let mut pool = SlotPool::new(30, &BTreeSet::new());
        let ranges: Vec<_> = (0..3).map(|_| pool.take(10).unwrap()).collect();
        assert_eq!(pool.take(1), None);
        for base in [ranges[0], ranges[2], ranges[1]] {
            pool.put(base, 10);
        }
        assert_eq!(pool.take(1), None, "freed ranges rest");
        pool.release();
        assert_eq!(pool.take(30), Some(0));
    }

    #[test]
    fn overlapping_used_ranges_are_never_handed_out() {
        let mut pool = SlotPool::new(10, &BTreeSet::from([(2, 3), (3, 4), (9, 5)]));
        let mut taken: Vec<_> = std::iter::from_fn(|| pool.take(1)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 7, 8]);
    }

    proptest! {
        #[test]
        fn live_ranges_never_overlap(steps in prop::collection::vec((0u8..3, 1u32..20), 1..200)) {
            let mut pool = SlotPool::new(128, &BTreeSet::new());
            let mut live: Vec<(u32, u32)> = Vec::new();
            for (what, len) in steps {
                match what {
                    0 => if let Some(base) = pool.take(len) {
                        prop_assert!(base + len <= 128);
                        prop_assert!(live.iter().all(|&(b, l)| base + len <= b || b + l <= base));
                        live.push((base, len));
                    },
                    1 => if !live.is_empty() {
                        let (base, len) = live.swap_remove(usize::try_from(len).unwrap() % live.len());
                        pool.put(base, len);
                    },
                    _ => pool.release(),
                }
            }
            for (base, len) in live { pool.put(base, len); }
            pool.release();
            prop_assert_eq!(pool.take(128), Some(0));
        }
    }
}
