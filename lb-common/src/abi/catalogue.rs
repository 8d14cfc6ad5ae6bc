//! The catalogue of maps: what each one is, told once. All else about maps follows from it, by macros that it is handed
//! to (`tables.rs` here, `maps.rs` of the kernel programs, `layouts.rs` and `observe.rs` of the agent).

/// Version of all layouts in this module and of the meaning of their fields. Pinned maps carry it; an agent that finds
/// another version refuses, it never reads foreign bytes.
pub const ABI_VERSION: u32 = 4;
/// What the fields of all maps come to in that version: a test in `tables.rs` notices fields that change places.
#[cfg(test)]
pub(super) const SHAPE: u64 = 0xa1b4_78e3_5153_2f50;

/// Hands all maps of one group to the macro `$then`: `family` (one map for each address family; types for the address
/// type `$addr`), `single` (one for both), `agent` (one, which programs know nothing of).
/// An entry: constant, accessor, names of the maps, `pinned` or `scratch`, kind, key and value, facts.
#[macro_export]
macro_rules! tables {
    (family, $addr:ident, $then:ident) => {
        $then! { $addr:
            /// Frontends.
            FRONTENDS frontends [FRONTENDS4 FRONTENDS6]: pinned Hash(FrontendKey<$addr> => FrontendValue) {
                size: Size::ByNode { large: 1 << 17, small: 1 << 15 },
                object: 65_536,
                flags: NO_PREALLOC,
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
                size: Size::Constant(1 << 18),
                object: 262_144,
                flags: MMAPABLE,
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
                size: Size::ByNode { large: 1 << 17, small: 1 << 16 },
                object: 131_072,
                flags: MMAPABLE,
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
            /// What may be a frontend: lets most packets go without a look-up.
            FRONT_FILTER front_filter [FRONT_FILTER4 FRONT_FILTER6]: pinned Array(u32 => filter::Block) {
                size: Size::Fixed(filter::FRONT_BLOCKS),
                flags: MMAPABLE,
                holds: "block of a Bloom filter → addresses of ClusterIPs, other frontends' with their ports",
                writer: "agent",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "not a frontend",
            }
            /// What may be a backend, or has flows left of one.
            BACK_FILTER back_filter [BACK_FILTER4 BACK_FILTER6]: pinned Array(u32 => filter::Block) {
                size: Size::Fixed(filter::BACK_BLOCKS),
                flags: MMAPABLE,
                holds: "block of a Bloom filter → addresses and ports of backends",
                writer: "agent",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "not a reply",
            }
            /// What may be a flow: lets most packets between clients and backends go without a look-up.
            FLOW_FILTER flow_filter [FLOW_FILTER4 FLOW_FILTER6]: pinned Array(u32 => filter::Cells) {
                size: Size::Fixed(2 * filter::FLOW_BLOCKS),
                flags: MMAPABLE,
                holds: "two halves of a filter → client and backend of each flow",
                writer: "kernel adds; agent's sweep makes one half anew at a time",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "a direct connection",
            }
            /// Prefixes of clients that a Service allows.
            RANGES ranges [RANGES4 RANGES6]: pinned LpmTrie(SourceRangeKey<$addr> => u32) {
                size: Size::Constant(1 << 15),
                object: 16_384,
                flags: NO_PREALLOC, // The kernel has no other trie.
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
                carried: Carried::Shared,
                readers: "kernel",
            }
            /// Established flows.
            FLOWS flows [FLOWS4 FLOWS6]: pinned Hash(FlowKey<$addr> => FlowValue<$addr>) {
                size: Size::PerMemory { bytes: 32 << 10, low: 1 << 14, high: 1 << 21 },
                object: 131_072,
                flags: NO_PREALLOC,
                holds: "tuple → rewrite",
                writer: "kernel; agent's sweep removes",
                carried: Carried::Last,
                readers: "kernel, CLI",
                miss: "not established",
                flag: Some(Flag {
                    name: "--max-flows",
                    help: "Room for established flows, two entries a flow, per family",
                    counts: "entries for established flows, two a flow, per family",
                    full: "new flows stay half-open",
                }),
            }
            /// Flows whose client has not answered its backend yet.
            HALF_OPEN half_open [HALF4 HALF6]: pinned LruHash(FlowKey<$addr> => FlowValue<$addr>) {
                size: Size::PerMemory { bytes: 256 << 10, low: 1 << 13, high: 1 << 19 },
                object: 65_536,
                holds: "tuple → rewrite",
                writer: "kernel; agent's sweep removes",
                carried: Carried::Last,
                readers: "kernel, CLI",
                miss: "new flow",
                flag: Some(Flag {
                    name: "--max-embryonic-flows",
                    help: "Room for flows whose client has not answered its backend yet, two entries a flow, per family",
                    counts: "entries for half-open flows, two a flow, per family",
                    full: "the kernel evicts old ones",
                }),
            }
            /// The backend that a client had last.
            AFFINITY affinity [AFFINITY4 AFFINITY6]: pinned LruHash(AffinityKey<$addr> => AffinityValue) {
                size: Size::PerMemory { bytes: 512 << 10, low: 1 << 13, high: 1 << 20 },
                object: 65_536,
                holds: "client, service id → time, backend, generation",
                writer: "kernel",
                carried: Carried::Last,
                readers: "kernel",
                miss: "choose afresh",
                flag: Some(Flag {
                    name: "--max-affinity",
                    help: "Room for clients with session affinity, per family",
                    counts: "clients with session affinity, per family",
                    full: "the kernel evicts old ones: those clients get a new backend",
                }),
            }
            /// How far round robin is.
            TURNS turns [TURNS4 TURNS6]: pinned LruHash(TurnKey => u32) {
                size: Size::Constant(1 << 13),
                holds: "backend set, processor → the slot whose turn is next",
                writer: "kernel",
                carried: Carried::Not,
                readers: "kernel",
                miss: "begins at a random slot",
            }
            /// Tables of Maglev.
            MAGLEV maglev [MAGLEV4 MAGLEV6]: pinned Hash(TableKey => TableBlock) {
                size: Size::ByNode { large: 1 << 17, small: 1 << 14 },
                object: 1_024,
                flags: NO_PREALLOC,
                holds: "backend set, block of its table → places, each with the number of a member",
                writer: "agent",
                readers: "kernel",
                miss: "any member",
                flag: Some(Flag {
                    name: "--max-maglev-blocks",
                    help: "Room for the tables of Maglev in blocks of 4 KiB, per family",
                    counts: "blocks of 4 KiB for the tables of [Maglev](algorithms.md#maglev), per family",
                    full: "the Service is served at random: refusal `TablesFull`",
                }),
            }
            /// Sockets whose connection is load-balanced.
            SOCKETS sockets [SOCKETS4 SOCKETS6]: pinned LruHash(SocketKey<$addr> => SocketValue<$addr>) {
                size: Size::ByNode { large: 1 << 15, small: 1 << 14 },
                object: 65_536,
                holds: "socket's cookie, address → the other side of its translation",
                writer: "kernel; agent removes dead peers",
                carried: Carried::Last,
                readers: "kernel, CLI",
                miss: "the socket sees the backend's address",
                flag: Some(Flag {
                    name: "--max-sockets",
                    help: "Room for load-balanced sockets, per family",
                    counts: "load-balanced sockets, one or two entries each, per family",
                    full: "the kernel evicts old ones: those see the Pod as their peer, and are not destroyed with it",
                }),
            }
            /// Addresses of frontends and backends, for fragments: those that come before their first have no port.
            ADDRESS_FILTER address_filter [ADDR_FILTER4 ADDR_FILTER6]: pinned Array(u32 => filter::Block) {
                size: Size::Fixed(filter::ADDRESS_BLOCKS),
                flags: MMAPABLE,
                holds: "block of a Bloom filter → addresses of frontends and backends, whatever the port",
                writer: "agent",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "a fragment that comes before its first does not wait",
            }
            /// Ports of fragmented datagrams in flight.
            FRAGMENTS fragments [FRAGS4 FRAGS6]: pinned LruHash(FragmentKey<$addr> => FragmentValue) {
                size: Size::Constant(1 << 13),
                holds: "addresses, identification, protocol → ports, protocol, time",
                writer: "kernel",
                carried: Carried::Not,
                readers: "kernel",
                miss: "first fragment not seen: wait for it, or pass",
            }
            /// Datagrams of which fragments wait for their first.
            EARLY early [EARLY4 EARLY6]: pinned LruHash(FragmentKey<$addr> => Waiting) {
                size: Size::Constant(1 << 10),
                holds: "addresses, identification, protocol → time, cells",
                writer: "kernel",
                carried: Carried::Not,
                readers: "kernel",
                miss: "none waits",
            }
            /// Fragments that wait for their first.
            HELD held [HELD4 HELD6]: pinned LruHash(HeldKey<$addr> => HeldValue) {
                size: Size::Constant(1 << 10),
                holds: "datagram, cell → bytes of a packet",
                writer: "kernel",
                carried: Carried::Not,
                readers: "kernel",
                miss: "the fragment is lost",
            }
            /// How much of each sender's waits.
            SENDERS senders [SENDERS4 SENDERS6]: pinned LruHash(SenderKey<$addr> => Waiting) {
                size: Size::Constant(1 << 10),
                holds: "source address → time, cells",
                writer: "kernel",
                carried: Carried::Not,
                readers: "kernel",
                miss: "nothing waits",
            }
            /// Traffic by backend.
            STATS stats [STATS4 STATS6]: pinned Array(u32 => StatsValue) {
                size: Size::UpTo("BACKENDS"),
                object: 4_096,
                flags: MMAPABLE,
                holds: "backend id → packets and bytes each way, connections, those that are open, generation",
                writer: "kernel; agent empties",
                carried: Carried::Counted,
                readers: "agent, CLI",
                miss: "id not counted",
                flag: Some(Flag {
                    name: "--max-counted-backends",
                    help: "Backends whose packets, bytes and connections are counted, per family; 0: none",
                    counts: "backends whose [traffic](#traffic) is counted, per family; 0: none",
                    full: "backends with higher ids are served, but not counted",
                }),
            }
            /// How connections to backends went that outlier ejection judges.
            OUTLIERS outliers [OUTLIERS4 OUTLIERS6]: pinned Array(u32 => OutlierValue) {
                size: Size::Constant(1 << 14),
                object: 16_384,
                flags: MMAPABLE,
                holds: "backend id → clients, connections answered and failed, generation",
                writer: "kernel; agent (begins a cell, empties its clients)",
                readers: "agent",
                miss: "the backend is not judged",
            }
            /// When refusals may be answered again, see [`crate::abi::refusals`].
            REFUSALS refusals [REFUSALS4 REFUSALS6]: scratch PerCpuArray(u32 => u64) {
                size: Size::Fixed(refusals::COUNT),
                holds: "bucket of clients → when it is empty, in ns",
                writer: "kernel",
                readers: "kernel",
            }
            /// Working memory of the slow path.
            SCRATCH scratch [SCRATCH4 SCRATCH6]: scratch PerCpuArray(u32 => Workspace<$addr>) {
                size: Size::Fixed(1),
                holds: "0 → working memory of the slow path",
                writer: "kernel",
                readers: "kernel",
            }
        }
    };
    (single, $then:ident) => {
        $crate::single_tables!($then);
    };
    (agent, $then:ident) => {
        $crate::agent_tables!($then);
    };
}
