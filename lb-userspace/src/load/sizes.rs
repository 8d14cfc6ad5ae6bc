//! Capacities of the maps: the catalogue's rules, for a node's memory.

use std::collections::BTreeMap;

use lb_common::abi::table::{Size, Table};
use lb_common::abi::tables;

/// Entries of the tables whose size is not part of their meaning; of each map where a table has one per family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSizes(BTreeMap<&'static str, u32>);

impl MapSizes {
    /// Defaults for a node with this much memory.
    pub fn for_memory(bytes: u64) -> Self {
        let sized = |table: &Table| Some((table.name(), default_size(table, bytes)?));
        Self(tables::all().filter_map(sized).collect())
    }

    /// Defaults for this node.
    pub fn for_this_node() -> Self {
        let memory = nix::sys::sysinfo::sysinfo().map_or(1 << 30, |info| info.ram_total());
        Self::for_memory(memory)
    }

    /// Capacity of a map by its name; `None` for maps whose size is part of their meaning.
    pub fn of(&self, map: &str) -> Option<u32> {
        self.entries(tables::of_map(map)?)
    }

    /// Capacity of a table's maps.
    pub fn entries(&self, table: &Table) -> Option<u32> {
        match table.size {
            Size::As(other) => self.entries(tables::named(other)?),
            _ => self.0.get(table.name()).copied(),
        }
    }

    /// Changes a table's capacity. It has no effect where the size is part of the meaning.
    pub fn set(&mut self, table: &Table, entries: u32) {
        if let Some(known) = self.0.get_mut(table.name()) {
            *known = entries;
        }
    }
}

fn default_size(table: &Table, bytes: u64) -> Option<u32> {
    // A machine of 4 GiB shows less than that: the kernel keeps some for itself.
    let is_large = bytes >= 3 << 30;
    match table.size {
        Size::Fixed(_) | Size::Each(..) | Size::As(_) => None,
        Size::Constant(entries) => Some(entries),
        Size::ByNode { large, small } => Some(if is_large { large } else { small }),
        Size::PerMemory { bytes: each, low, high } => Some(rounded(bytes / each, low, high)),
        Size::UpTo(other) => default_size(tables::named(other)?, bytes),
    }
}

/// Within bounds, and rounded down to a power of two: the kernel rounds a hash table's buckets up to one anyway, and the
/// edge of a budget should not show as an odd number.
fn rounded(wanted: u64, low: u32, high: u32) -> u32 {
    let within = u32::try_from(wanted).unwrap_or(u32::MAX).min(high).max(low);
    1 << within.max(1).ilog2()
}

impl Default for MapSizes {
    fn default() -> Self {
        Self::for_this_node()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(table: &Table, bytes: u64) -> u32 {
        MapSizes::for_memory(bytes).entries(table).unwrap()
    }

    #[test]
    fn flow_tables_follow_memory_between_bounds() {
        assert_eq!(size(&tables::FLOWS, 0), 1 << 14);
        assert_eq!(size(&tables::FLOWS, 16 << 30), 1 << 19);
        assert_eq!(size(&tables::FLOWS, 1 << 50), 1 << 21);
        assert_eq!((size(&tables::HALF_OPEN, 16 << 30), size(&tables::AFFINITY, 16 << 30)), (1 << 16, 1 << 15));
    }

    #[test]
    fn a_small_node_still_holds_a_thousand_endpoints_of_each_of_fifty_services() {
        let (backends, slots) = (size(&tables::BACKENDS, 512 << 20), size(&tables::SLOTS, 512 << 20));
        assert!(backends >= 50_000 && slots >= 2 * backends);
    }

    #[test]
    fn an_ordinary_node_holds_ten_thousand_services_of_ten_endpoints_in_each_family() {
        let sizes = MapSizes::for_memory(3 << 30);
        let size = |table| sizes.entries(table).unwrap();
        assert!(size(&tables::BACKENDS) > 100_000 && size(&tables::NAMES) > 2 * 10_000);
        // A set is replaced by a new one beside it, and a ClusterIP has a separate entry.
        assert!(size(&tables::SLOTS) >= 2 * 100_000 && size(&tables::FRONTENDS) >= 2 * 10_000);
    }

    #[test]
    fn each_backend_is_counted_where_nothing_else_is_asked_for() {
        let sizes = MapSizes::for_memory(24 << 30);
        assert_eq!(sizes.of("STATS4"), sizes.of("BACKENDS4"));
    }

    #[test]
    fn maps_of_fixed_meaning_have_no_size() {
        let mut sizes = MapSizes::for_memory(1 << 30);
        assert_eq!(sizes.of("COUNTERS"), None);
        assert_eq!(sizes.of("FLOWS6"), sizes.entries(&tables::FLOWS));
        assert_eq!(sizes.of("DEVICES"), Some(1 << 13));
        sizes.set(&tables::COUNTERS, 1);
        assert_eq!(sizes.of("COUNTERS"), None);
    }

    #[test]
    fn totals_are_as_many_as_names_whatever_those_are() {
        let mut sizes = MapSizes::for_memory(1 << 30);
        sizes.set(&tables::NAMES, 77);
        assert_eq!((sizes.of("NAMES"), sizes.of("TOTALS")), (Some(77), Some(77)));
    }
}
