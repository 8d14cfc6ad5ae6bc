//! Ranges of `ClusterIP`s, however many there are: few prefixes that hold them all, for a packet's first look, and where
//! those hold more than the ranges, all of them, for the second.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// The ranges as the data path wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceRanges {
    /// One or two prefixes that hold all ranges; none: there are no ranges.
    pub(super) prefixes: Vec<IpNet>,
    /// All ranges, where the prefixes hold more than those; else empty.
    pub(super) exact: BTreeSet<IpNet>,
}

/// Ranges of one family.
pub(super) fn service_ranges(ranges: &[IpNet]) -> ServiceRanges {
    // Sorted, joined where they touch, and without those within others.
    let mut joined = IpNet::aggregate(&ranges.iter().map(IpNet::trunc).collect());
    joined.sort_unstable();
    if joined.len() <= 2 {
        return ServiceRanges { prefixes: joined, exact: BTreeSet::new() };
    }
    let halves = (1..joined.len()).filter_map(|at| {
        let (low, high) = joined.split_at_checked(at)?;
        Some([around(low)?, around(high)?])
    });
    let prefixes = halves.min_by_key(|pair| pair.iter().map(size).fold(0, u128::saturating_add));
    ServiceRanges { prefixes: prefixes.map_or_else(Vec::new, Vec::from), exact: joined.into_iter().collect() }
}

/// The longest prefix that holds all of these.
fn around(nets: &[IpNet]) -> Option<IpNet> {
    let (first, last) = (*nets.first()?, nets.last()?);
    std::iter::successors(Some(first), IpNet::supernet).find(|net| net.contains(last))
}

/// How many addresses a prefix has.
fn size(net: &IpNet) -> u128 {
    1_u128.checked_shl(u32::from(net.max_prefix_len() - net.prefix_len())).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[&str]) -> (Vec<String>, usize) {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let found = service_ranges(&ranges);
        assert!(ranges.iter().all(|range| found.prefixes.iter().any(|prefix| prefix.contains(range))));
        (found.prefixes.iter().map(ToString::to_string).collect(), found.exact.len())
    }

    fn texts(prefixes: &[&str]) -> Vec<String> {
        prefixes.iter().map(|prefix| (*prefix).to_owned()).collect()
    }

    #[test]
    fn up_to_two_ranges_stay_as_they_are() {
        assert_eq!(of(&[]), (vec![], 0));
        assert_eq!(of(&["10.96.0.0/12"]), (texts(&["10.96.0.0/12"]), 0));
        assert_eq!(of(&["10.98.0.0/24", "10.96.0.0/16"]), (texts(&["10.96.0.0/16", "10.98.0.0/24"]), 0));
        // Those that join, or are within others, are not more than that.
        let joining = ["10.0.0.0/24", "10.0.1.0/24", "10.0.0.64/26", "fd00::/112"];
        assert_eq!(of(&joining[..3]), (texts(&["10.0.0.0/23"]), 0));
    }

    #[test]
    fn any_number_of_ranges_is_held_by_two_prefixes_that_hold_little_else() {
        let grown = ["10.60.0.0/16", "10.61.0.0/24", "10.62.0.0/24", "10.63.0.0/24"];
        assert_eq!(of(&grown), (texts(&["10.60.0.0/15", "10.62.0.0/15"]), 4));
        let far = ["10.0.1.0/24", "10.0.3.0/24", "192.168.7.0/24"];
        assert_eq!(of(&far), (texts(&["10.0.0.0/22", "192.168.7.0/24"]), 3));
        let v6 = ["fd00:1::/112", "fd00:2::/112", "fd00:3::/112", "fd99::/108"];
        assert_eq!(of(&v6), (texts(&["fd00::/30", "fd99::/108"]), 4));
        let many: Vec<String> = (0..1000).map(|n| format!("10.{}.{}.0/25", n / 250, n % 250)).collect();
        let (prefixes, exact) = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((prefixes.len(), exact), (2, 1000));
        // Opposite ends of all addresses.
        assert_eq!(of(&["0.0.0.0/1", "192.0.0.0/24", "255.255.255.0/24"]).1, 3);
    }
}
