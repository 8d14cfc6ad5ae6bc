//! Uniform choice among so many, by a random number or a hash.

/// The number after a random one: Numerical Recipes' generator, good enough for one among a few.
#[inline(always)]
pub(super) const fn next(number: u32) -> u32 {
    number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// The place of a number that may be any among `count`, each as likely as the others.
#[inline(always)]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the high half of a 32 by 32 bit product is below `count`"
)]
pub const fn scaled(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}
