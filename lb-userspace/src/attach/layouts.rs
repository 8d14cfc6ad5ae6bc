//! Sizes of keys and values of every pinned map, against which pins are checked before they are trusted.

use std::fmt;

use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, DeviceValue, FamilyConfig, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendKey, FrontendValue, NameValue, ReportValue, SocketKey, SocketValue, SourceRangeKey,
    StatsValue, StatusValue, V4, V6, map_name,
};

/// Sizes of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Map name.
    pub(super) name: &'static str,
    /// Bytes of a key.
    pub(super) key: u32,
    /// Bytes of a value.
    pub(super) value: u32,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys of {} and values of {} bytes", self.key, self.value)
    }
}

const fn layout<K, V>(name: &'static str) -> Layout {
    #[allow(clippy::cast_possible_truncation, reason = "map types are far smaller than 4 GiB, and const")]
    Layout { name, key: size_of::<K>() as u32, value: size_of::<V>() as u32 }
}

/// A longest-prefix key begins with its length (`struct bpf_lpm_trie_key`).
type Prefixed<K> = (u32, K);

const fn family<A>(at: usize) -> [Layout; 11] {
    [
        layout::<FlowKey<A>, FlowValue<A>>(map_name::FLOWS[at]),
        layout::<FlowKey<A>, FlowValue<A>>(map_name::EMBRYOS[at]),
        layout::<FrontendKey<A>, FrontendValue>(map_name::FRONTENDS[at]),
        layout::<u32, u32>(map_name::SLOTS[at]),
        layout::<u32, BackendValue<A>>(map_name::BACKENDS[at]),
        layout::<AffinityKey<A>, AffinityValue>(map_name::AFFINITY[at]),
        layout::<FragmentKey<A>, FragmentValue>(map_name::FRAGMENTS[at]),
        layout::<SocketKey<A>, SocketValue<A>>(map_name::SOCKETS[at]),
        layout::<Prefixed<SourceRangeKey<A>>, u32>(map_name::RANGES[at]),
        layout::<u32, FamilyConfig<A>>(map_name::CONFIG[at]),
        layout::<u32, StatsValue>(map_name::STATS[at]),
    ]
}

const FAMILIES: [[Layout; 11]; 2] = [family::<V4>(0), family::<V6>(1)];
const SINGLES: [Layout; 7] = [
    layout::<u32, DeviceValue>(map_name::DEVICES),
    layout::<[u32; 2], u32>(map_name::OPT_OUT),
    layout::<u32, u64>(map_name::COUNTERS),
    layout::<u32, StatsValue>(map_name::TOTALS),
    layout::<u32, StatusValue>(map_name::STATUS),
    layout::<u32, NameValue>(map_name::NAMES),
    layout::<u32, ReportValue>(map_name::REPORT),
];

/// All pinned maps.
pub(super) fn all() -> Vec<Layout> {
    FAMILIES.iter().flatten().chain(&SINGLES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_is_listed_once_and_fits_the_kernels_name_length() {
        let all = all();
        assert_eq!(all.len(), 29);
        for layout in &all {
            assert!(layout.name.len() <= 15);
            assert_eq!(all.iter().filter(|other| other.name == layout.name).count(), 1, "{}", layout.name);
        }
    }

    #[test]
    fn a_prefix_key_has_no_padding() {
        assert_eq!(all().iter().find(|l| l.name == "RANGES6").map(|l| l.key), Some(24));
    }
}
