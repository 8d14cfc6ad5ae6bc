//! Maglev (Eisenbud et al., NSDI 2016): a hash of the connection leads to a place of the set's table, and that to a member.
//! All nodes have the same table, so a connection meets the same backend whatever node it comes by.

use super::random::scaled;
use super::source_hash::{self, high};
use crate::abi::{Address, AffinityKey, filter, place_width};

/// The connection's place among those of the table.
#[inline(always)]
pub(super) fn place<A: Address>(client: &AffinityKey<A>, source: u32, places: u32) -> u32 {
    scaled(hash(client, source), places)
}

/// A number that stands for the connection.
#[inline(always)]
pub(super) fn hash<A: Address>(client: &AffinityKey<A>, source: u32) -> u32 {
    high(filter::mix(source_hash::hash(client) ^ u64::from(source)))
}

/// The member in a place of the table, whose bytes are read one by one, of a set with so many members.
#[inline(always)]
pub(super) fn member(place: u32, members: u32, byte: impl Fn(u32) -> Option<u8>) -> Option<u32> {
    let member = if place_width(members) == 1 {
        u32::from(byte(place)?)
    } else {
        let at = place.wrapping_mul(2);
        u32::from(byte(at)?) | u32::from(byte(at.wrapping_add(1))?) << 8
    };
    if member < members { Some(member) } else { None }
}
