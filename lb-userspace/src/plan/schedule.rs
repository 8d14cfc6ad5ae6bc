//! The slots of a backend set: which backends the kernel picks from, by algorithm and weights.
//!
//! An algorithm is a variant of [`Algorithm`], with the slots that it wants here, and a file in
//! `lb_common::datapath::schedule`, which picks. Both know it by its number in `lb_common::abi::algorithm`.

use super::port::PortBackend;
use crate::model::algorithm::Algorithm;

/// A set with weights has at most so many slots, or four for each member where that is more. Weights whose sum is larger,
/// divided by what they have in common, are rounded.
const MOST_SLOTS: u64 = 1_024;

/// What the set's slots hold: ids of `members`, which come in the order of their address. Equal members give equal slots,
/// so that a set which has not changed is not written again; no members give none. Where all weights are 0 they do not
/// count.
pub(super) fn slots(algorithm: Algorithm, members: &[PortBackend]) -> Box<[u32]> {
    let members: Vec<(u32, u16)> = members.iter().map(|member| (member.id, member.weight)).collect();
    by_weight(algorithm, &members)
}

/// The same for ids and weights.
fn by_weight(algorithm: Algorithm, members: &[(u32, u16)]) -> Box<[u32]> {
    let shares = shares(members);
    match algorithm {
        // Weights are in the table.
        Algorithm::Maglev => members.iter().map(|(id, _)| *id).collect(),
        Algorithm::Random | Algorithm::SourceHash => {
            let repeated = members.iter().zip(&shares);
            repeated
                .flat_map(|((id, _), share)| std::iter::repeat_n(*id, usize::try_from(*share).unwrap_or(0)))
                .collect()
        }
        // Those that are looked at together are neighbours, or chosen by chance: as often as they have weight.
        Algorithm::RoundRobin | Algorithm::LeastConnections => in_turn(members, &shares),
    }
}

/// How many slots each member has.
fn shares(members: &[(u32, u16)]) -> Vec<u64> {
    let weights: Vec<u64> = members.iter().map(|(_, weight)| u64::from(*weight)).collect();
    let common = weights.iter().copied().fold(0, gcd);
    if common == 0 {
        return vec![1; members.len()];
    }
    let mut shares: Vec<u64> = weights.iter().map(|weight| weight / common).collect();
    let most = MOST_SLOTS.max(4 * u64::try_from(members.len()).unwrap_or(0));
    let sum: u64 = shares.iter().sum();
    if sum > most {
        let exact = shares.clone();
        for (share, weight) in shares.iter_mut().zip(&exact).filter(|(_, weight)| **weight > 0) {
            *share = (*weight * most / sum).max(1);
        }
        // What is left by rounding goes to those that lost most by it.
        let left = usize::try_from(most.saturating_sub(shares.iter().sum())).unwrap_or(0);
        let mut by_loss: Vec<usize> = (0..exact.len()).filter(|index| exact[*index] * most / sum > 0).collect();
        by_loss.sort_by_key(|index| std::cmp::Reverse(exact[*index] * most % sum));
        for index in by_loss.into_iter().take(left) {
            shares[index] += 1;
        }
    }
    shares
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Each member as often as its share says, as evenly spread as may be.
fn in_turn(members: &[(u32, u16)], shares: &[u64]) -> Box<[u32]> {
    let mut turns = Vec::new();
    for ((id, _), share) in members.iter().zip(shares) {
        // The middle of each of a member's parts of the round, in units that all members have in common.
        turns.extend((0..*share).map(|turn| ((2 * turn + 1) * (1 << 40) / *share, *id)));
    }
    // Stable: of those at the same place the first by address is first.
    turns.sort_by_key(|(place, _)| *place);
    turns.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(slots: &[u32], id: u32) -> usize {
        slots.iter().filter(|slot| **slot == id).count()
    }

    #[test]
    fn equal_weights_give_each_member_one_slot() {
        for weight in [0, 1, 7, u16::MAX] {
            for algorithm in Algorithm::ALL {
                assert_eq!(*by_weight(*algorithm, &[(5, weight), (3, weight)]), [5, 3], "{algorithm:?} {weight}");
            }
        }
        assert!(by_weight(Algorithm::Random, &[]).is_empty());
    }

    #[test]
    fn shares_are_exact_as_long_as_they_are_small() {
        let slots = by_weight(Algorithm::Random, &[(1, 100), (2, 200), (3, 700), (4, 0)]);
        assert_eq!([1, 2, 3, 4].map(|id| count(&slots, id)), [1, 2, 7, 0]);
    }

    #[test]
    fn large_weights_are_rounded_and_none_is_left_out() {
        let slots = by_weight(Algorithm::Random, &[(1, 1), (2, 65_535), (3, 32_767)]);
        assert!(slots.len() <= 1_025, "{}", slots.len());
        assert_eq!(count(&slots, 1), 1);
        assert!((count(&slots, 2)).abs_diff(2 * count(&slots, 3)) <= 2);
        let many: Vec<(u32, u16)> = (1..=5_000).map(|id| (id, if id % 2 == 0 { 3 } else { 60_000 })).collect();
        let slots = by_weight(Algorithm::RoundRobin, &many);
        assert!(slots.len() <= 22_500 && (1..=5_000).all(|id| count(&slots, id) > 0), "{}", slots.len());
    }

    #[test]
    fn turns_are_spread_evenly_over_the_round() {
        let slots = by_weight(Algorithm::RoundRobin, &[(1, 1), (2, 2), (3, 4)]);
        assert_eq!([1, 2, 3].map(|id| count(&slots, id)), [1, 2, 4]);
        let twice: Vec<u32> = slots.iter().chain(slots.iter()).copied().collect();
        assert!(twice.windows(3).all(|three| count(three, 3) <= 2 && count(three, 2) <= 1), "{slots:?}");
    }
}
