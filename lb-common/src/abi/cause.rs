//! `CAUSES`: LRU hash. Why clients of a service port got nothing, and how often.

use super::counter::Counter;
use super::plain::plain;

plain! {
    /// A service port and one of the reasons that [`is_of_service`] names.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct CauseKey {
        /// Service id.
        pub service: u32,
        /// Index of the counter that counts the same of all service ports.
        pub counter: u32,
    }
}

plain! {
    /// How often it happened, and when last.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CauseValue {
        /// Packets, and calls of sockets.
        pub count: u64,
        /// Nanoseconds of `CLOCK_MONOTONIC`.
        pub last_ns: u64,
    }
}

/// The reasons that are counted by service port: those for which a frontend has been found.
pub const CAUSES_OF_SERVICES: &[Counter] = &[
    Counter::RejectNoEndpoints,
    Counter::DropNoLocalEndpoints,
    Counter::DropSourceRange,
    Counter::DropForeignSource,
    Counter::DropSnatExhausted,
    Counter::DropSnatNoAddress,
    Counter::DropNoRoute,
    Counter::DropTooBig,
    Counter::DropFlowInsert,
    Counter::DropStaleSlot,
];

/// A bit for each of them.
#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, below the length")]
const BITS: u64 = {
    let (mut bits, mut at) = (0, 0);
    while at < CAUSES_OF_SERVICES.len() {
        bits |= 1u64 << CAUSES_OF_SERVICES[at].index();
        at += 1;
    }
    bits
};

/// Whether a counter, by its index, is one of [`CAUSES_OF_SERVICES`].
#[inline(always)]
pub const fn is_of_service(index: u32) -> bool {
    index < u64::BITS && BITS >> index & 1 != 0
}

const _: () = assert!(Counter::COUNT <= u64::BITS, "a word has a bit for each counter");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_those_that_are_listed() {
        for counter in Counter::ALL {
            assert_eq!(is_of_service(counter.index()), CAUSES_OF_SERVICES.contains(counter), "{}", counter.name());
        }
        assert!(!is_of_service(64) && !is_of_service(1 << 16));
    }
}
