//! `BACKENDS4`/`BACKENDS6`: array, index = backend id. A backend is one endpoint of one service port, so that "is this
//! flow's backend still an endpoint of its Service" is one array access and one comparison.

use super::Be16;
use super::plain::plain;

plain! {
    /// One endpoint of one service port and family. Index 0 is never used.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BackendValue<A> {
        /// The endpoint's address.
        pub addr: A,
        /// The endpoint's port.
        pub port: Be16,
        /// Bits of [`backend_flag`].
        pub flags: u16,
        /// Changes each time the index is given to another endpoint; 0: the index is free.
        pub generation: u32,
        /// The service id that owns this backend.
        pub service: u32,
        /// Share of new flows against the set's other backends; 1 where nothing else is said.
        pub weight: u16,
        /// Connections to it stay unanswered: [`SILENT`] and, in the other bits, when it was last tried, in units of
        /// 2^28 ns of `CLOCK_MONOTONIC`. 0: they do not. The kernel's programs write it.
        pub silent: u16,
        /// How its Service's outlier ejection has it, see [`rest`]. The agent writes it.
        pub rest: u16,
        /// How packets are wrapped on their way to the endpoint; 0: not at all.
        pub encapsulation: u16,
        /// When it last answered a connection, in jiffies; 0: not known. The kernel's programs write it.
        pub answered: u32,
    }
}

/// The bit of [`BackendValue::silent`] that says so; the others are a time.
pub const SILENT: u16 = 1 << 15;

/// [`BackendValue::silent`] of a backend that was last tried at this time of `CLOCK_MONOTONIC`.
#[inline(always)]
#[must_use]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "wraps after two hours")]
pub const fn silent_at(ns: u64) -> u16 {
    (ns >> 28) as u16 | SILENT
}

impl<A> BackendValue<A> {
    /// Not 0 where new connections may have to pass it over.
    #[inline(always)]
    #[must_use]
    pub const fn avoidance(&self) -> u16 {
        self.silent | self.rest >> 1
    }

    /// Whether new connections may have to pass it over: one branch.
    #[inline(always)]
    #[must_use]
    pub const fn is_avoided(&self) -> bool {
        self.avoidance() != 0
    }
}

/// Values of [`BackendValue::rest`]. Those between are probation: of so many new connections that would come to the backend
/// one does, and the others pass it over.
pub mod rest {
    /// Its Service has no outlier ejection: nothing is counted.
    pub const OFF: u16 = 0;
    /// It gets all of its new connections, and how they go is counted.
    pub const NONE: u16 = 1;
    /// It is ejected: none.
    pub const EJECTED: u16 = u16::MAX;
}

/// Bits of [`BackendValue::flags`].
pub mod backend_flag {
    /// The endpoint is on this node.
    pub const LOCAL: u16 = 1;
    /// The endpoint is terminating (still serving).
    pub const TERMINATING: u16 = 2;
    /// Member of the service port's cluster-wide set.
    pub const IN_CLUSTER: u16 = 4;
    /// Member of the service port's node-local set.
    pub const IN_LOCAL: u16 = 8;
    /// The endpoint's address is one of this node's own (a host-network Pod on this node).
    pub const HOST_NETWORK: u16 = 16;
}
