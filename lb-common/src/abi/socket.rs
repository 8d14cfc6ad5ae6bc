//! `SOCKETS4`/`SOCKETS6`: LRU hash of sockets that a hook has led to a backend. `OPT_OUT`: hash of network namespaces
//! whose sockets are left alone, by their cookie.
//!
//! A socket is known by its cookie (`SO_COOKIE`), which is never given to another one while the machine runs.

use super::Be16;
use super::plain::plain;

plain! {
    /// A socket and an address that it deals with.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SocketKey<A> {
        /// The socket's cookie, low half first.
        pub cookie: [u32; 2],
        /// With [`socket_kind::REPLY`] the backend's address, with [`socket_kind::REQUEST`] the VIP.
        pub addr: A,
        /// Its port.
        pub port: Be16,
        /// IP protocol number.
        pub proto: u8,
        /// One of [`socket_kind`].
        pub kind: u8,
    }
}

plain! {
    /// The other side of a socket's translation.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SocketValue<A> {
        /// With [`socket_kind::REPLY`] the VIP, with [`socket_kind::REQUEST`] the backend's address.
        pub addr: A,
        /// Its port.
        pub port: Be16,
        /// Bits of [`socket_state`].
        pub state: u16,
        /// Backend id.
        pub backend: u32,
        /// The backend's generation when it was chosen.
        pub generation: u32,
        /// Service id.
        pub service: u32,
        /// When the entry was written or last used for sending, in units of 2^30 ns of `CLOCK_MONOTONIC`.
        pub seen: u32,
        /// Cookie of the socket's network namespace, low half first.
        pub netns: [u32; 2],
        /// When the socket connected, in jiffies: TCP to a frontend with more than one endpoint. 0: anything else.
        pub born: u32,
    }
}

/// Bits of [`SocketValue::state`], in entries of [`socket_kind::REPLY`].
pub mod socket_state {
    /// The connection is among those in [`crate::abi::StatsValue::open`].
    pub const COUNTED: u16 = 1;
    /// TCP: outlier ejection counts how the connection goes.
    pub const JUDGED: u16 = 2;
}

/// Values of [`SocketKey::kind`].
pub mod socket_kind {
    /// Backend to VIP: what the socket is told of its peer, and what `sluice flows` lists.
    pub const REPLY: u8 = 1;
    /// VIP to backend: an unconnected socket goes on with the backend that it began with.
    pub const REQUEST: u8 = 2;
    /// What an unconnected socket has asked, so that it goes with the socket. The key's port is a place in the list, and the
    /// value's address and port are the VIP; place 0 has their number in `backend`.
    pub const ASKED: u8 = 3;
}
