//! Arithmetic in place of branches: the verifier would follow what comes behind a branch once for each outcome.

use core::hint::black_box;

/// 1 where a number is below another one, else 0; both below 2^63. It is the sign of their difference.
#[inline(always)]
pub(super) fn is_below(number: u64, other: u64) -> u64 {
    black_box(number.wrapping_sub(other)) >> 63
}

/// The lower half.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "that half is asked for")]
pub(super) const fn low(word: u64) -> u32 {
    word as u32
}
