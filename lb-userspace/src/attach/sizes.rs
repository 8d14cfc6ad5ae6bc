//! Capacities of the maps, from the node's memory.

use lb_common::abi::{StatsValue, map_name};
use serde::Serialize;

/// Entries per map; per family where a map exists per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapSizes {
    /// Established flows; a flow takes two entries.
    pub flows: u32,
    /// Flows without a reply yet; a flow takes two entries.
    pub embryos: u32,
    /// Frontends.
    pub frontends: u32,
    /// Slots of backend sets.
    pub slots: u32,
    /// Backends.
    pub backends: u32,
    /// Clients with session affinity.
    pub affinity: u32,
    /// Sockets led to a backend.
    pub sockets: u32,
    /// Fragmented datagrams in flight.
    pub fragments: u32,
    /// Source ranges.
    pub ranges: u32,
    /// Network devices.
    pub devices: u32,
    /// Names of service ports.
    pub names: u32,
    /// Backends whose traffic is counted.
    pub counted: u32,
}

/// The kernel allocates LRU tables in full when it creates them, so they follow the memory: one flow entry per this
/// many bytes of memory costs about 0.9 % of it for both families.
const BYTES_PER_FLOW_ENTRY: u64 = 32 * 1024;

/// The counters of backends exist once for each processor, so they follow the memory too: at most this share of it, for
/// both families.
const COUNTED_SHARE: u64 = 128;
/// Backends counted at least.
const COUNTED_LOW: u32 = 1 << 10;
/// And at most: ten thousand Services of ten endpoints. More costs memory and time at the start that few nodes make use
/// of.
const COUNTED_HIGH: u32 = 1 << 17;

impl MapSizes {
    /// Defaults for a node with this much memory and so many processors.
    pub fn for_memory(bytes: u64, processors: usize) -> Self {
        let scaled = |share: u64, low: u32, high: u32| {
            let wanted = (bytes / BYTES_PER_FLOW_ENTRY / share).clamp(u64::from(low), u64::from(high));
            // Round down to a power of two: the kernel rounds a hash table's buckets up to one anyway.
            1u32 << wanted.ilog2()
        };
        // A machine of 4 GiB shows less than that: the kernel keeps some for itself.
        let large = bytes >= 3 << 30;
        let backends = if large { 1 << 18 } else { 1 << 16 };
        Self {
            flows: scaled(1, 1 << 14, 1 << 21),
            embryos: scaled(4, 1 << 13, 1 << 19),
            frontends: if large { 1 << 17 } else { 1 << 15 },
            slots: if large { 1 << 20 } else { 1 << 18 },
            backends,
            affinity: scaled(2, 1 << 13, 1 << 20),
            sockets: if large { 1 << 16 } else { 1 << 14 },
            fragments: 1 << 13,
            ranges: 1 << 15,
            devices: 1 << 13,
            names: if large { 1 << 17 } else { 1 << 15 },
            counted: counted(bytes, processors, backends),
        }
    }

    /// Defaults for this node.
    pub fn for_this_node() -> Self {
        let memory = nix::sys::sysinfo::sysinfo().map_or(1 << 30, |info| info.ram_total());
        Self::for_memory(memory, aya::util::nr_cpus().unwrap_or(1))
    }

    /// Capacity of a map by its name; `None` for maps whose size is part of their meaning.
    pub fn of(&self, name: &str) -> Option<u32> {
        let per_family = [
            (map_name::FLOWS, self.flows),
            (map_name::EMBRYOS, self.embryos),
            (map_name::FRONTENDS, self.frontends),
            (map_name::SLOTS, self.slots),
            (map_name::BACKENDS, self.backends),
            (map_name::AFFINITY, self.affinity),
            (map_name::SOCKETS, self.sockets),
            (map_name::FRAGMENTS, self.fragments),
            (map_name::RANGES, self.ranges),
            (map_name::STATS, self.counted),
        ];
        let single = [(map_name::DEVICES, self.devices), (map_name::NAMES, self.names), (map_name::TOTALS, self.names)];
        per_family
            .iter()
            .find(|(names, _)| names.contains(&name))
            .map(|(_, size)| *size)
            .or_else(|| single.iter().find(|(n, _)| *n == name).map(|(_, size)| *size))
    }
}

/// Backends whose traffic is counted: a power of two, so that the budget's edge does not show as an odd number.
fn counted(bytes: u64, processors: usize, backends: u32) -> u32 {
    let cell = u64::try_from(size_of::<StatsValue>() * 2 * processors.max(1)).unwrap_or(u64::MAX);
    let affordable =
        u32::try_from(bytes / COUNTED_SHARE / cell).unwrap_or(u32::MAX).clamp(COUNTED_LOW, backends.min(COUNTED_HIGH));
    1 << affordable.ilog2()
}

impl Default for MapSizes {
    fn default() -> Self {
        Self::for_this_node()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_tables_follow_memory_between_bounds() {
        assert_eq!(MapSizes::for_memory(0, 2).flows, 1 << 14);
        assert_eq!(MapSizes::for_memory(16 << 30, 2).flows, 1 << 19);
        assert_eq!(MapSizes::for_memory(1 << 50, 2).flows, 1 << 21);
    }

    #[test]
    fn a_small_node_still_holds_a_thousand_endpoints_of_each_of_fifty_services() {
        let sizes = MapSizes::for_memory(512 << 20, 2);
        assert!(sizes.backends >= 50_000 && sizes.slots >= 2 * sizes.backends);
    }

    #[test]
    fn an_ordinary_node_holds_ten_thousand_services_of_ten_endpoints_in_each_family() {
        let sizes = MapSizes::for_memory(3 << 30, 2);
        assert!(sizes.backends > 100_000 && sizes.names > 2 * 10_000);
        // A set is replaced by a new one beside it, and a ClusterIP has an entry of its own.
        assert!(sizes.slots >= 2 * 100_000 && sizes.frontends >= 2 * 10_000);
    }

    #[test]
    fn counters_of_backends_follow_memory_and_processors() {
        let counted = |gib: u64, processors| MapSizes::for_memory(gib << 30, processors).counted;
        assert_eq!((counted(0, 2), counted(0, 512)), (1 << 10, 1 << 10));
        assert_eq!((counted(4, 2), counted(4, 8), counted(256, 64)), (1 << 17, 1 << 15, 1 << 17));
        for (gib, processors) in [(1, 1), (4, 4), (64, 32), (1024, 512)] {
            let bytes = u64::from(counted(gib, processors)) * 48 * 2 * processors as u64;
            assert!(bytes <= (gib << 30) / 128, "{gib} GiB, {processors} processors: {bytes} bytes");
        }
    }

    #[test]
    fn maps_of_fixed_meaning_have_no_size() {
        let sizes = MapSizes::for_memory(1 << 30, 2);
        assert_eq!(sizes.of(map_name::COUNTERS), None);
        assert_eq!(sizes.of("FLOWS6"), Some(sizes.flows));
        assert_eq!(sizes.of("DEVICES"), Some(sizes.devices));
    }
}
