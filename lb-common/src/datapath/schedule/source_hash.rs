//! A client has always the same slot of a set, whatever node it meets.

use super::random::scaled;
use crate::abi::{Address, AffinityKey, SetRef, filter};

/// The client's slot. A client is known as for affinity: by its address, a socket by its network namespace.
#[inline(always)]
pub(super) fn index<A: Address>(client: &AffinityKey<A>, set: SetRef) -> u32 {
    scaled(high(hash(client)), set.count)
}

/// A number that stands for the client.
#[inline(always)]
pub(super) fn hash<A: Address>(client: &AffinityKey<A>) -> u64 {
    let [low, high] = client.netns;
    filter::mix(filter::address_hash(client.client) ^ (u64::from(low) | u64::from(high) << 32))
}

/// The better half of a hash.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "32 bits are left")]
pub(super) const fn high(hash: u64) -> u32 {
    (hash >> 32) as u32
}
