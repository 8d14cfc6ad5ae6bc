//! Internet checksum arithmetic (RFC 1071, RFC 1624). All sums are of words in memory order: the result is the same
//! in every byte order as long as sums and fields are read alike.

/// Folds a sum of 16- or 32-bit words to 16 bits, with end-around carry.
#[inline(always)]
#[allow(clippy::as_conversions, reason = "truncation to 16 bits after folding is the operation")]
#[allow(clippy::cast_possible_truncation, reason = "the value is below 2^16 after the last fold")]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// What [`delta`] gives for no change: the negative zero of one's complement.
pub const UNCHANGED: u16 = 0xffff;

/// Folds a sum of a few 16-bit words, at most some thousand, with end-around carry.
#[inline(always)]
#[allow(clippy::as_conversions, reason = "truncation to 16 bits after folding is the operation")]
#[allow(clippy::cast_possible_truncation, reason = "the value is below 2^16 after the second fold")]
const fn fold_few(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// What has to be added to a checksum's complement when words that sum to `old` become words that sum to `new`:
/// `m' + ~m` of RFC 1624.
#[inline(always)]
pub fn delta(old: u64, new: u64) -> u16 {
    fold_few(u32::from(fold(new)) + u32::from(!fold(old)))
}

/// The checksum field after its words changed by `delta`: `~(~HC + delta)`.
#[inline(always)]
pub fn update(field: u16, delta: u16) -> u16 {
    !fold_few(u32::from(!field) + u32::from(delta))
}

/// A complete transport checksum after its words changed by `delta`. `optional`: 0 means "no checksum" and stays so, and
/// a sum that becomes 0 is sent as ones (RFC 768).
#[inline(always)]
pub fn patch<P: super::Write>(pkt: &mut P, field: usize, delta: u16, optional: bool) -> Option<()> {
    let old = pkt.u16_at(field)?;
    if optional && old == 0 {
        return Some(());
    }
    let sum = update(old, delta);
    pkt.put_u16(field, if sum == 0 && optional { 0xffff } else { sum })
}

/// Sum of two deltas.
#[inline(always)]
pub fn add(a: u16, b: u16) -> u16 {
    fold_few(u32::from(a) + u32::from(b))
}

/// Full checksum of `bytes`, added to `seed` (a sum, not a folded checksum). Not for the data path.
#[cfg(any(test, feature = "testkit"))]
pub fn full(bytes: &[u8], seed: u64) -> u16 {
    let mut sum = seed;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn update_equals_full_recompute(mut bytes in proptest::collection::vec(any::<u8>(), 20..64), new: [u8; 4], at in 1usize..4) {
            bytes.truncate(bytes.len() & !1);
            bytes[0] = 0;
            bytes[1] = 0;
            bytes[2] = 1; // never all zero: 0 and 0xffff are the same number in one's complement
            let before = full(&bytes, 0);
            let at = at * 4;
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new);
            let d = delta(u64::from(old), u64::from(u32::from_ne_bytes(new)));
            prop_assert_eq!(update(before, d), full(&bytes, 0));
        }
    }
}
