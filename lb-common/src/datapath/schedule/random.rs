//! Uniform random choice over the slots of a set.

use crate::abi::{Address, SetRef};
use crate::datapath::env::Host;

/// A slot of the set, each as likely as the others.
#[inline(always)]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the high half of a 32 by 32 bit product is below `count`"
)]
pub(super) fn slot<A: Address, E: Host<A>>(env: &E, set: SetRef) -> u32 {
    set.base.wrapping_add(((u64::from(env.random()) * u64::from(set.count)) >> 32) as u32)
}
