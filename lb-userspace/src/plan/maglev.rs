//! The table of a set for Maglev (Eisenbud et al., NSDI 2016, section 3.4): each member goes through the places in an order
//! that its address and port give it, and takes the next free one when it is its turn.
//!
//! The table follows from addresses, ports, weights and size alone, so two agents make the same, byte for byte. It is not
//! for those who may choose a backend's address: the hash is no secret.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::place_width;

/// A place that nobody has yet. No member has this number: `MOST_MEMBERS` is the limit.
const FREE: u16 = u16::MAX;

/// The table of these members (endpoint and weight, in the order of their addresses, fewer than places) as the kernel has
/// it. Those with weight 0 get no place, unless all have.
pub(super) fn table(members: &[(SocketAddr, u16)], places: u32) -> Box<[u8]> {
    let places = usize::try_from(places).unwrap_or(0);
    let width = place_width(u32::try_from(members.len()).unwrap_or(u32::MAX));
    let filled = fill(members, places);
    if width == 1 {
        filled.iter().map(|member| member.to_le_bytes()[0]).collect()
    } else {
        filled.iter().flat_map(|member| member.to_le_bytes()).collect()
    }
}

/// A member's way through the places.
struct Turn {
    member: u16,
    weight: u32,
    /// Weight that it has gathered since its last turn.
    gathered: u32,
    place: usize,
    step: usize,
}

fn fill(members: &[(SocketAddr, u16)], places: usize) -> Vec<u16> {
    let mut table = vec![FREE; places];
    let equal = members.iter().all(|(_, weight)| *weight == 0);
    let heaviest = if equal { 1 } else { members.iter().map(|(_, weight)| u32::from(*weight)).max().unwrap_or(1) };
    let weighted = (0..FREE).zip(members).filter(|(_, (_, weight))| equal || *weight > 0);
    let mut turns: Vec<Turn> = weighted
        .map(|(member, (addr, weight))| {
            let hash = hash(*addr);
            let of = |hash: u64, places: usize| usize::try_from(hash % u64::try_from(places).unwrap_or(1)).unwrap_or(0);
            Turn {
                member,
                weight: if equal { 1 } else { u32::from(*weight) },
                gathered: 0,
                place: of(hash, places),
                // The number of places is prime, so any step goes through all of them.
                step: 1 + of(spread(hash ^ 0xd6e8_feb8_6659_fd93), places - 1),
            }
        })
        .collect();
    let mut left = if turns.is_empty() { 0 } else { places };
    while left > 0 {
        for turn in &mut turns {
            turn.gathered += turn.weight;
            if turn.gathered < heaviest || left == 0 {
                continue;
            }
            turn.gathered -= heaviest;
            turn.take(&mut table);
            left -= 1;
        }
    }
    table
}

impl Turn {
    /// Takes the next free place; there is one.
    fn take(&mut self, table: &mut [u16]) {
        loop {
            let place = self.place;
            self.place += self.step;
            if self.place >= table.len() {
                self.place -= table.len();
            }
            if table[place] == FREE {
                table[place] = self.member;
                return;
            }
        }
    }
}

/// FNV-1a over address and port, spread.
fn hash(addr: SocketAddr) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    let of_ip = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().iter().fold(start, step),
        IpAddr::V6(ip) => ip.octets().iter().fold(start, step),
    };
    spread(addr.port().to_be_bytes().iter().fold(of_ip, step))
}

/// The finaliser of `SplitMix64`.
const fn spread(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const PLACES: u32 = 32_749;

    fn members(count: u32, first: u32) -> Vec<(SocketAddr, u16)> {
        (0..count).map(|n| (SocketAddr::new(IpAddr::from((first + n).to_be_bytes()), 8080), 1)).collect()
    }

    /// Places of each member.
    fn counts(table: &[u8], members: u32) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for place in table.chunks(usize::try_from(place_width(members)).unwrap()) {
            *counts.entry(place.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn removing_one_of_a_hundred_moves_few_of_the_others() {
        for (seed, gone) in [(0x0a01_0000, 0), (0x0a01_0000, 50), (0x0af4_0707, 99), (0xc0a8_0001, 13), (7, 77)] {
            let before = members(100, seed);
            let mut after = before.clone();
            after.remove(gone);
            let (old, new) = (table(&before, PLACES), table(&after, PLACES));
            let address = |of: &[(SocketAddr, u16)], member: u8| of[usize::from(member)].0;
            let others = old.iter().zip(&new).filter(|(old, _)| usize::from(**old) != gone);
            let (mut moved, mut all) = (0, 0);
            for (old, new) in others {
                all += 1;
                moved += u32::from(address(&before, *old) != address(&after, *new));
            }
            assert!(moved * 1_000 <= all * 15, "{moved} of {all} moved");
        }
    }

    #[test]
    fn members_have_nearly_the_same_number_of_places() {
        for count in [1_u32, 2, 3, 10, 100, 256, 257, 1_000] {
            let table = table(&members(count, 0x0a01_0000), PLACES);
            let counts = counts(&table, count);
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(u32::try_from(counts.len()).unwrap() == count && most - least <= 1, "{count}: {least} to {most}");
        }
    }

    #[test]
    fn places_follow_the_weights() {
        let mut members = members(4, 0x0a01_0000);
        for (member, weight) in members.iter_mut().zip([1, 2, 7, 0]) {
            member.1 = weight;
        }
        let counts = counts(&table(&members, PLACES), 4);
        for (member, weight) in [(0, 1), (1, 2), (2, 7)] {
            assert!(counts[&member].abs_diff(PLACES * weight / 10) <= 8, "{counts:?}");
        }
        assert!(!counts.contains_key(&3));
        for member in &mut members {
            member.1 = 0;
        }
        assert_eq!(super::tests::counts(&table(&members, PLACES), 4).len(), 4, "all are 0: they are equal");
    }

    #[test]
    fn a_table_is_what_it_was_in_every_version() {
        // Nodes of two versions must agree: a table that changes is a change of what nodes have in common.
        let table = table(&members(3, 0x0a01_0000), 251);
        let sum = table.iter().fold(0_u64, |all, byte| spread(all ^ u64::from(*byte)));
        assert_eq!((table.len(), sum), (251, 11_637_060_578_966_454_794));
    }

    proptest! {
        #[test]
        fn every_place_has_a_member(count in 1_u32..600, weights in prop::collection::vec(0_u16..5, 600)) {
            let mut members = members(count, 0x0a01_0000);
            members.iter_mut().zip(weights).for_each(|(member, weight)| member.1 = weight);
            let counts = counts(&table(&members, 1_021), count);
            prop_assert!(counts.keys().all(|member| *member < count), "{counts:?}");
        }
    }
}
