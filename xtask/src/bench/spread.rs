//! Statistics of a bench: percentiles of one sample, and the least, median and greatest of all rounds.

use serde::{Deserialize, Serialize};

/// Least, median and greatest of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Least.
    pub(super) min: f64,
    /// Median.
    pub(super) median: f64,
    /// Greatest.
    pub(super) max: f64,
}

impl Spread {
    /// `None` of no values.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Self { min: *values.first()?, median: median(&values)?, max: *values.last()? })
    }

    /// Quotients of values that were taken in the same round. A round that lacks one of the two does not count.
    pub(super) fn of_ratios(mine: &[Option<f64>], base: &[Option<f64>]) -> Option<Self> {
        let ratios = mine.iter().zip(base).filter_map(|(mine, base)| Some((*mine)? / (*base)?));
        Self::of(ratios)
    }
}

/// Of sorted values; between the middle two where their number is even.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper))
}

/// The value that this share of all values does not exceed (nearest rank). Sorts them.
pub(super) fn percentile(values: &mut [u32], share: f64) -> Option<u32> {
    values.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank in a list that fits into memory"
    )]
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_is_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of([5.0, 1.0, 3.0]), Some(Spread { min: 1.0, median: 3.0, max: 5.0 }));
    }

    #[test]
    fn no_values_have_no_spread() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is twice as fast in the second round: the ratio does not move.
        let (mine, base) = ([Some(90.0), Some(180.0)], [Some(100.0), Some(200.0)]);
        assert_eq!(Spread::of_ratios(&mine, &base), Some(Spread { min: 0.9, median: 0.9, max: 0.9 }));
    }

    #[test]
    fn a_round_without_one_of_the_two_does_not_count() {
        let (mine, base) = ([Some(50.0), None, Some(80.0)], [Some(100.0), Some(100.0), None]);
        assert_eq!(Spread::of_ratios(&mine, &base), Some(Spread { min: 0.5, median: 0.5, max: 0.5 }));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 0.5), Some(50));
        assert_eq!(percentile(&mut values, 0.99), Some(99));
        assert_eq!(percentile(&mut values, 1.0), Some(100));
        assert_eq!(percentile(&mut [7], 0.01), Some(7));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
