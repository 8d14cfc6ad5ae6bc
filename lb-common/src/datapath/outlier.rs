//! How backends treat new connections, for the agent to judge each by its fellows (outlier ejection).
//!
//! Against a backend counts what it does itself: it refuses a connection, or resets one before it has sent anything and
//! while the client has neither closed nor reset it. Clients are distinguished, roughly, so that one that provokes its backend
//! is one of many.

use super::env::{Counters, Env, Services};
use super::sequence;
use crate::abi::{Address, BackendValue, FlowValue, filter, flow_state, rest};

/// The bit that stands for a client with this hash.
#[inline(always)]
const fn bit(hash: u64) -> u64 {
    1 << (hash >> 58)
}

/// The bit that stands for the client of a flow, by its reverse entry.
#[inline(always)]
fn of_client<A: Address>(reverse: &FlowValue<A>) -> u64 {
    bit(filter::address_hash(reverse.dst.client()))
}

/// Whether a backend that was looked up is judged, if it is still the one of this generation.
#[inline(always)]
fn is_judged<A>(known: Option<BackendValue<A>>, generation: u32) -> bool {
    known.is_some_and(|known| known.generation == generation && known.rest != rest::OFF)
}

/// The backend of a flow, which is judged, has answered its SYN. A call, for the sake of the stack.
#[inline(never)]
pub(super) fn answered<A: Address, E: Counters<A>>(env: &E, reverse: &FlowValue<A>, said: u16) {
    env.went(reverse.backend, reverse.generation, of_client(reverse), 1, u32::from(said & flow_state::RST != 0));
}

/// The backend of a flow has reset it, by a segment that begins at `seq`. `reverse` is the flow's reverse entry as it was
/// before, `forward` the state of the other. A call, for the sake of the stack.
#[inline(never)]
pub(super) fn reset<A: Address, E: Env<A>>(env: &E, reverse: &FlowValue<A>, forward: u16, seq: u32) {
    let begun = !reverse.born != reverse.next;
    let over = (reverse.state | forward) & flow_state::CLOSED != 0;
    if begun || over || !sequence::resets(reverse.next, seq) {
        return;
    }
    if is_judged(env.backend(reverse.backend), reverse.generation) {
        env.went(reverse.backend, reverse.generation, of_client(reverse), 0, 1);
    }
}

/// A socket's connection was refused (`answered`), or reset before its backend had sent anything.
#[inline(always)]
pub(super) fn socket_failed<A: Address, E: Services<A> + Counters<A>>(
    env: &E,
    backend: u32,
    generation: u32,
    netns: [u32; 2],
    refused: bool,
) {
    if is_judged(env.backend(backend), generation) {
        env.went(backend, generation, of_netns(netns), u32::from(refused), 1);
    }
}

/// The bit that stands for a network namespace, by its cookie: a socket has no address when it is led.
#[inline(always)]
pub(super) fn of_netns([low, _]: [u32; 2]) -> u64 {
    bit(u64::from(low).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
