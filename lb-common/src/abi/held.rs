//! `EARLY4`/`6`, `HELD4`/`6`, `SENDERS4`/`6`: later fragments that came before their first, which has the ports. They
//! wait here, as bytes in cells, until it comes.

use super::flow::FragmentKey;
use super::plain::plain;

/// Bytes in a cell at most.
pub const CELL: usize = 2_047;

plain! {
    /// How much of a datagram, or of a sender's datagrams, waits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Waiting {
        /// Since when, in units of 2^20 nanoseconds of `CLOCK_MONOTONIC`.
        pub since: u32,
        /// Cells.
        pub cells: u32,
        /// Cells of a datagram that have gone on.
        pub released: u32,
    }
}

plain! {
    /// Whose fragments wait.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SenderKey<A> {
        /// Source address.
        pub src: A,
    }
}

plain! {
    /// Key of a cell.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct HeldKey<A> {
        /// The datagram.
        pub datagram: FragmentKey<A>,
        /// Cells are counted from 0, in the order of arrival.
        pub index: u32,
    }
}

plain! {
    /// A piece of a packet. Pieces of one packet are in adjacent cells.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HeldValue {
        /// Bytes of the packet.
        pub total: u16,
        /// Where in it the piece begins.
        pub at: u16,
        /// Bytes of the piece, at most [`CELL`].
        pub length: u16,
        /// Always 0.
        pub pad: u16,
        /// The piece. A byte more than is used: the verifier sees the bound in a mask.
        pub bytes: [u8; CELL + 1],
    }
}

impl Default for HeldValue {
    fn default() -> Self {
        Self { total: 0, at: 0, length: 0, pad: 0, bytes: [0; CELL + 1] }
    }
}
