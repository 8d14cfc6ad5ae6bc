//! `FRONTENDS4`/`FRONTENDS6`: hash, exact keys. `SLOTS4`/`SLOTS6`: array of backend ids, in contiguous ranges that the
//! frontends point at. `RANGES4`/`RANGES6`: longest-prefix match of allowed client addresses. `TURNS4`/`TURNS6`: LRU hash
//! of how far round robin is.

use super::Be16;
use super::plain::plain;

plain! {
    /// A VIP, port and protocol. Port 0 and protocol 0 together are the entry of the address itself. It says "this is a
    /// `ClusterIP`", and is asked for after a miss inside the Service range, so that an undefined port is refused; and
    /// whether an ICMP echo request is answered.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FrontendKey<A> {
        /// The VIP.
        pub addr: A,
        /// The Service port, or the `NodePort`.
        pub port: Be16,
        /// IP protocol number.
        pub proto: u8,
        /// One of [`frontend_scope`].
        pub scope: u8,
    }
}

impl<A> FrontendKey<A> {
    /// Key of the entry of an address itself.
    #[inline(always)]
    pub const fn of_address(addr: A) -> Self {
        Self { addr, port: Be16(0), proto: 0, scope: frontend_scope::ALL }
    }
}

/// Values of [`FrontendKey::scope`].
pub mod frontend_scope {
    /// Packets and sockets.
    pub const ALL: u8 = 0;
    /// Sockets of the node's own network namespace alone: `NodePort`s on loopback addresses. Packets never look here.
    pub const HOST: u8 = 1;
}

plain! {
    /// A contiguous range of the slots array: one generation of one backend set. Sets are replaced by writing a new
    /// range and then the frontend, never in place.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SetRef {
        /// First slot.
        pub base: u32,
        /// Number of slots; 0: no endpoints.
        pub count: u32,
    }
}

plain! {
    /// What a frontend leads to.
    ///
    /// Two sets in one value rather than a scope in the key: one look-up whatever the scope, and both flip at once.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FrontendValue {
        /// For clients inside: the node's Pods and processes, and Pods of other nodes.
        pub internal: SetRef,
        /// For clients outside of the cluster.
        pub external: SetRef,
        /// Service id: one service port and family. Never 0.
        pub service: u32,
        /// `sessionAffinity` timeout in seconds; 0: no affinity.
        pub affinity_secs: u32,
        /// Bits of [`frontend_flag`].
        pub flags: u16,
        /// One of [`frontend_kind`].
        pub kind: u8,
        /// One of [`algorithm`].
        pub algorithm: u8,
        /// Argument of the algorithm: of Maglev, how many places the sets' tables have; 0: none.
        pub schedule: u32,
        /// Always 0.
        pub reserved: [u32; 3],
    }
}

/// Bits of [`FrontendValue::flags`].
pub mod frontend_flag {
    /// With an empty internal set: drop without an answer (endpoints exist, but not where the policy wants them) instead of
    /// refusing.
    pub const INTERNAL_EMPTY_DROPS: u16 = 1;
    /// The same for the external set.
    pub const EXTERNAL_EMPTY_DROPS: u16 = 2;
    /// The internal set is the node-local one (`internalTrafficPolicy: Local`).
    pub const INTERNAL_LOCAL: u16 = 4;
    /// The external set is the node-local one (`externalTrafficPolicy: Local`).
    pub const EXTERNAL_LOCAL: u16 = 8;
    /// Only clients inside `loadBalancerSourceRanges` are served: look in the ranges map.
    pub const SOURCE_RANGES: u16 = 16;
    /// The address is one of the node's own. Said of load balancers' and external addresses; those of `NodePort`s always
    /// are.
    pub const NODE_ADDRESS: u16 = 32;
    /// Of an address's own entry: a Service has endpoints there, so an ICMP echo request is answered.
    pub const ANSWERS_ECHO: u16 = 64;
}

/// Values of [`FrontendValue::kind`].
pub mod frontend_kind {
    /// `spec.clusterIPs`.
    pub const CLUSTER_IP: u8 = 1;
    /// A node address with `spec.ports[].nodePort`.
    pub const NODE_PORT: u8 = 2;
    /// `status.loadBalancer.ingress[].ip`.
    pub const LOAD_BALANCER: u8 = 3;
    /// `spec.externalIPs`.
    pub const EXTERNAL_IP: u8 = 4;
    /// The port-0 entry of a known `ClusterIP`.
    pub const KNOWN_VIP: u8 = 5;
    /// The port-0 entry of a load balancer's address.
    pub const ADDRESS: u8 = 6;

    /// Whether an entry is an address's own, and no frontend.
    pub const fn is_of_address(kind: u8) -> bool {
        matches!(kind, KNOWN_VIP | ADDRESS)
    }
}

/// Values of [`FrontendValue::algorithm`].
pub mod algorithm {
    /// Uniform random choice over the slots. A backend with more weight has more slots.
    pub const RANDOM: u8 = 0;
    /// One slot after the other, on each processor.
    pub const ROUND_ROBIN: u8 = 1;
    /// A client has always the same slot, as long as the set stays the same.
    pub const SOURCE_HASH: u8 = 2;
    /// A table of the set says which slot a connection has; `schedule` is its size.
    pub const MAGLEV: u8 = 3;
    /// Of some slots the backend with the fewest open connections for its weight.
    pub const LEAST_CONNECTIONS: u8 = 4;

    /// Whether an algorithm goes by open connections, so that they are counted.
    #[inline(always)]
    #[must_use]
    pub const fn counts_connections(algorithm: u8) -> bool {
        algorithm == LEAST_CONNECTIONS
    }
}

plain! {
    /// Key of the map of turns: where a processor is in a set that it goes through in turn.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TurnKey {
        /// First slot of the set, which is another one after each change of it.
        pub set: u32,
        /// The processor.
        pub cpu: u32,
    }
}

plain! {
    /// Key of the ranges map. Longest-prefix keys begin with the number of significant bits (`bpf_lpm_trie_key`),
    /// counted over `service` and `addr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SourceRangeKey<A> {
        /// Service id.
        pub service: u32,
        /// Network address.
        pub addr: A,
    }
}
