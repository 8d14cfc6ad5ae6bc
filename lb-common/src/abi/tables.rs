//! The catalogue of maps: what each one is, told once. The kernel's declarations, the agent's checks of pins, sizes,
//! flags, fill levels and the tables of the documents follow from it.

use super::table::{Flag, Kind, Map, Size, Table};
use super::{
    AffinityKey, AffinityValue, BackendValue, Counter, DeviceValue, FamilyConfig, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendKey, FrontendValue, NameValue, ReportValue, SocketKey, SocketValue, SourceRangeKey,
    StatsValue, StatusValue, V4, V6,
};

/// `BPF_F_NO_PREALLOC`: entries are allocated as they come.
const NO_PREALLOC: u32 = 1;

/// Hands all maps of one group to the macro `$then`: `family` (one map for each address family; types for the address
/// type `$addr`), `single` (one for both), `agent` (one, which programs know nothing of).
///
/// An entry: constant, accessor, names of the maps, `pinned` or `scratch`, kind, key and value, facts.
#[macro_export]
macro_rules! tables {
    (family, $addr:ident, $then:ident) => {
        $then! { $addr:
            /// Frontends.
            FRONTENDS frontends [FRONTENDS4 FRONTENDS6]: pinned Hash(FrontendKey<$addr> => FrontendValue) {
                size: Size::ByNode { large: 1 << 17, small: 1 << 15 },
                object: 65_536,
                holds: "address, port, protocol → two set references, service id, affinity, flags, kind",
                writer: "agent",
                readers: "kernel",
                miss: "no Service here",
                flag: Some(Flag {
                    name: "--max-frontends",
                    help: "Room for frontends, per family",
                    counts: "frontends, per family, and one per ClusterIP",
                    full: "refusal `MapFull`",
                }),
            }
            /// Members of all backend sets.
            SLOTS slots [SLOTS4 SLOTS6]: pinned Array(u32 => u32) {
                size: Size::ByNode { large: 1 << 20, small: 1 << 18 },
                object: 262_144,
                holds: "slot → backend id",
                writer: "agent",
                readers: "kernel",
                miss: "id 0: drop, `drop_stale_slot`",
                flag: Some(Flag {
                    name: "--max-slots",
                    help: "Room for the members of all backend sets, per family",
                    counts: concat!(
                        "members of all backend sets, per family. A port with a `Local` policy has two sets, and a ",
                        "set that changes needs room for old and new"
                    ),
                    full: "refusal `SlotsFull`",
                }),
            }
            /// Backends.
            BACKENDS backends [BACKENDS4 BACKENDS6]: pinned Array(u32 => BackendValue<$addr>) {
                size: Size::ByNode { large: 1 << 18, small: 1 << 16 },
                object: 131_072,
                holds: "backend id → address, port, flags, generation, service id, weight",
                writer: "agent",
                readers: "kernel",
                miss: "generation 0: free",
                flag: Some(Flag {
                    name: "--max-backends",
                    help: "Room for backends (endpoints of service ports), per family",
                    counts: "endpoints × service ports, per family",
                    full: "refusal `BackendsFull`",
                }),
            }
            /// Prefixes of clients that a Service allows.
            RANGES ranges [RANGES4 RANGES6]: pinned LpmTrie(SourceRangeKey<$addr> => u32) {
                size: Size::Constant(1 << 15),
                object: 16_384,
                // The kernel has no trie with preallocated entries.
                flags: NO_PREALLOC,
                holds: "service id, prefix → 1",
                writer: "agent",
                readers: "kernel",
                miss: "client not allowed: drop",
                flag: Some(Flag {
                    name: "--max-source-ranges",
                    help: "Room for prefixes of `loadBalancerSourceRanges`, per family",
                    counts: "prefixes, per family",
                    full: "refusal `MapFull`",
                }),
            }
            /// Settings of the data path.
            CONFIG config [CONFIG4 CONFIG6]: pinned Array(u32 => FamilyConfig<$addr>) {
                size: Size::Fixed(1),
                holds: "0 → settings of the data path",
                writer: "agent",
                readers: "kernel",
            }
            /// Established flows.
            FLOWS flows [FLOWS4 FLOWS6]: pinned LruHash(FlowKey<$addr> => FlowValue<$addr>) {
                size: Size::PerMemory { bytes: 32 << 10, low: 1 << 14, high: 1 << 21 },
                object: 131_072,
                holds: "tuple → rewrite",
                writer: "kernel; agent's sweep removes",
                readers: "kernel, CLI",
                miss: "not established",
                flag: Some(Flag {
                    name: "--max-flows",
                    help: "Room for established flows, two entries a flow, per family",
                    counts: "entries for established flows, two a flow, per family",
                    full: "the kernel evicts old ones",
                }),
            }
            /// Flows without a reply yet.
            EMBRYOS embryos [EMBRYO4 EMBRYO6]: pinned LruHash(FlowKey<$addr> => FlowValue<$addr>) {
                size: Size::PerMemory { bytes: 128 << 10, low: 1 << 13, high: 1 << 19 },
                object: 65_536,
                holds: "tuple → rewrite",
                writer: "kernel; agent's sweep removes",
                readers: "kernel, CLI",
                miss: "new flow",
                flag: Some(Flag {
                    name: "--max-embryonic-flows",
                    help: "Room for flows without a reply, two entries a flow, per family",
                    counts: "entries for flows without a reply, two a flow, per family",
                    full: "the kernel evicts old ones",
                }),
            }
            /// The backend that a client had last.
            AFFINITY affinity [AFFINITY4 AFFINITY6]: pinned LruHash(AffinityKey<$addr> => AffinityValue) {
                size: Size::PerMemory { bytes: 64 << 10, low: 1 << 13, high: 1 << 20 },
                object: 65_536,
                holds: "client, service id → time, backend, generation",
                writer: "kernel",
                readers: "kernel",
                miss: "choose afresh",
                flag: Some(Flag {
                    name: "--max-affinity",
                    help: "Room for clients with session affinity, per family",
                    counts: "clients with session affinity, per family",
                    full: "the kernel evicts old ones: those clients are given a new backend",
                }),
            }
            /// Sockets that are led to a backend.
            SOCKETS sockets [SOCKETS4 SOCKETS6]: pinned LruHash(SocketKey<$addr> => SocketValue<$addr>) {
                size: Size::ByNode { large: 1 << 16, small: 1 << 14 },
                object: 65_536,
                holds: "socket's cookie, address → the other side of its translation",
                writer: "kernel; agent removes dead peers",
                readers: "kernel, CLI",
                miss: "the socket is told the backend's address",
                flag: Some(Flag {
                    name: "--max-sockets",
                    help: "Room for sockets led to a backend, per family",
                    counts: "sockets led to a backend, one or two entries each, per family",
                    full: "the kernel evicts old ones: those see the Pod as their peer, and are not destroyed with it",
                }),
            }
            /// Ports of fragmented datagrams in flight.
            FRAGMENTS fragments [FRAGS4 FRAGS6]: pinned LruHash(FragmentKey<$addr> => FragmentValue) {
                size: Size::Constant(1 << 13),
                holds: "addresses, identification, protocol → ports",
                writer: "kernel",
                readers: "kernel",
                miss: "first fragment not seen: pass",
            }
            /// Traffic by backend, per CPU.
            STATS stats [STATS4 STATS6]: pinned PerCpuArray(u32 => StatsValue) {
                // More costs memory and time at the start that few nodes make use of.
                size: Size::PerProcessor { share: 128, low: 1 << 10, high: 1 << 17, of: "BACKENDS" },
                object: 4_096,
                holds: "backend id → packets and bytes each way, connections, generation",
                writer: "kernel; agent empties",
                readers: "agent, CLI",
                miss: "id not counted",
                flag: Some(Flag {
                    name: "--max-counted-backends",
                    help: "Backends whose packets, bytes and connections are counted, per family; 0: none",
                    counts: concat!(
                        "backends whose [traffic](#traffic) is counted, per family; 0: none. 64 bytes each for ",
                        "every processor"
                    ),
                    full: "backends with higher ids are served, but not counted",
                }),
            }
            /// Working memory of the slow path.
            SCRATCH scratch [SCRATCH4 SCRATCH6]: scratch PerCpuArray(u32 => Scratch<$addr>) {
                size: Size::Fixed(1),
                holds: "0 → working memory of the slow path",
                writer: "kernel",
                readers: "kernel",
            }
        }
    };
    (single, $then:ident) => {
        $then! {
            /// Devices.
            DEVICES devices [DEVICES]: pinned Hash(u32 => DeviceValue) {
                size: Size::Constant(1 << 13),
                object: 4_096,
                holds: "interface index → role, whether local, addresses",
                writer: "agent (`attach`)",
                readers: "kernel",
                miss: "not ours: no redirect by XDP",
            }
            /// Network namespaces that opted out of the socket hooks.
            OPT_OUT opt_out [OPT_OUT]: pinned Hash([u32; 2] => u32) {
                size: Size::Fixed(1_024),
                holds: "network namespace's cookie → 1",
                writer: "agent (`sockets`)",
                readers: "kernel",
                miss: "its sockets are served",
            }
            /// Counters, per CPU.
            COUNTERS counters [COUNTERS]: pinned PerCpuArray(u32 => u64) {
                size: Size::Each(Counter::COUNT, "counter"),
                holds: "counter → number",
                writer: "kernel",
                readers: "CLI",
            }
        }
    };
    (agent, $then:ident) => {
        $then! {
            // First: it says whose the others are. An agent that is killed in between leaves nothing that its successor
            // refuses.
            /// Agent's state.
            STATUS status [STATUS]: pinned Array(u32 => StatusValue) {
                size: Size::Fixed(1),
                holds: "0 → ABI version, pid, times, next generation",
                writer: "agent",
                readers: "agent, CLI",
            }
            /// Service names.
            NAMES names [NAMES]: pinned Hash(u32 => NameValue) {
                size: Size::ByNode { large: 1 << 17, small: 1 << 15 },
                flags: NO_PREALLOC,
                holds: "service id → `namespace/name:port/PROTOCOL`",
                writer: "agent",
                readers: "agent, CLI",
                flag: Some(Flag {
                    name: "--max-services",
                    help: "Room for service ports",
                    counts: "service ports, both families",
                    full: "the Service that does not fit stays as it was: refusal `ServicesFull`",
                }),
            }
            /// Traffic of backends that are gone, by service id.
            TOTALS totals [TOTALS]: pinned Hash(u32 => StatsValue) {
                size: Size::As("NAMES"),
                flags: NO_PREALLOC,
                holds: "service id → the same as `STATS`, of backends that are gone",
                writer: "agent",
                readers: "agent, CLI",
                miss: "none went yet",
            }
            /// Agent's report.
            REPORT report [REPORT]: pinned Array(u32 => ReportValue) {
                size: Size::Fixed(1),
                holds: "0 → the agent's report, JSON",
                writer: "agent",
                readers: "CLI",
            }
        }
    };
}

macro_rules! map {
    (pinned $kind:ident $name:ident $key:ty, $value:ty) => {
        Map::new::<$key, $value>(stringify!($name), Kind::$kind)
    };
    (scratch $kind:ident $name:ident $key:ty, $value:ty) => {
        Map::private(stringify!($name))
    };
}

macro_rules! is_pinned {
    (pinned) => {
        true
    };
    (scratch) => {
        false
    };
}

macro_rules! family {
    (Self: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        /// The maps of one address family.
        pub trait FamilyMaps {
            $($(#[$doc])* const $table: Map;)*
        }

        $(
            $(#[$doc])*
            #[allow(clippy::needless_update, reason = "an entry need not say everything, but may")]
            pub const $table: Table = Table {
                maps: &[<V4 as FamilyMaps>::$table, <V6 as FamilyMaps>::$table],
                kind: Kind::$kind,
                pinned: is_pinned!($pin),
                $($facts)*
                ..Table::BLANK
            };
        )*

        const OF_FAMILIES: &[Table] = &[$($table),*];

        /// Names of all maps, as pinned: of IPv4 and IPv6 where a table has one for each.
        pub mod map_name {
            $($(#[$doc])* pub const $table: [&str; 2] = [stringify!($v4), stringify!($v6)];)*
            pub use super::single_name::*;
            pub use super::agent_name::*;
        }
    };
    (V4: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        impl FamilyMaps for V4 {
            $(const $table: Map = map!($pin $kind $v4 $key, $value);)*
        }
    };
    (V6: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        impl FamilyMaps for V6 {
            $(const $table: Map = map!($pin $kind $v6 $key, $value);)*
        }
    };
}

macro_rules! single {
    ($group:ident $names:ident: $($(#[$doc:meta])* $table:ident $accessor:ident [$name:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        $(
            $(#[$doc])*
            #[allow(clippy::needless_update, reason = "an entry need not say everything, but may")]
            pub const $table: Table = Table {
                maps: &[map!($pin $kind $name $key, $value)],
                kind: Kind::$kind,
                pinned: is_pinned!($pin),
                $($facts)*
                ..Table::BLANK
            };
        )*

        const $group: &[Table] = &[$($table),*];

        mod $names {
            $($(#[$doc])* pub const $table: &str = stringify!($name);)*
        }
    };
}

macro_rules! of_programs {
    ($($entries:tt)*) => { single! { OF_PROGRAMS single_name: $($entries)* } };
}

macro_rules! of_agent {
    ($($entries:tt)*) => { single! { OF_AGENT agent_name: $($entries)* } };
}

tables!(family, Self, family);
tables!(family, V4, family);
tables!(family, V6, family);
tables!(single, of_programs);
tables!(agent, of_agent);

/// All tables, in the order of the documents.
pub fn all() -> impl Iterator<Item = &'static Table> {
    OF_FAMILIES.iter().chain(OF_PROGRAMS).chain(OF_AGENT)
}

/// The table that a map belongs to.
pub fn of_map(name: &str) -> Option<&'static Table> {
    all().find(|table| table.maps.iter().any(|map| map.name == name))
}

/// A table by its name, without a family's digit.
pub fn named(name: &str) -> Option<&'static Table> {
    all().find(|table| table.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_is_listed_once_and_fits_the_kernels_name_length() {
        let names: Vec<&str> = all().flat_map(|table| table.maps).map(|map| map.name).collect();
        for name in &names {
            assert!(name.len() <= 15, "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        let pinned = all().filter(|table| table.pinned).flat_map(|table| table.maps).count();
        assert_eq!(pinned, 29);
    }

    #[test]
    fn a_prefix_key_has_no_padding() {
        assert_eq!(V6::RANGES.key, 24);
    }

    #[test]
    fn a_table_that_says_how_many_it_has_means_one_that_exists() {
        for table in all() {
            if let Size::As(other) | Size::PerProcessor { of: other, .. } = table.size {
                assert!(named(other).is_some(), "{}: {other}", table.name());
            }
        }
    }

    #[test]
    fn the_object_has_room_in_every_map() {
        for table in OF_FAMILIES.iter().chain(OF_PROGRAMS) {
            assert!(table.entries_in_object() > 0, "{}", table.name());
        }
    }
}
