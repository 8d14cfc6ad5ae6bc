//! Backends that leave connections unanswered: how the kernel finds out, whoever sees it, packets or sockets.
//!
//! The sign is a SYN that had to be sent again. It counts if the backend has answered nobody since that connection began:
//! one lost packet among others that are answered says nothing, and a process that is slow to accept answers all the same,
//! because its kernel does. An answer, even a refusal, ends it.

use super::env::{Counters, Host, Services};
use crate::abi::{Address, Counter, config_flag, rest, silent_at};

/// Whether anybody is to find out.
#[inline(always)]
pub(super) fn is_watched<A: Address, E: Host<A>>(env: &E) -> bool {
    env.config().flags & config_flag::NO_SILENCE == 0
}

/// The time in [`crate::abi::BackendValue::silent`], with its bit.
#[inline(always)]
pub(super) fn clock<A: Address, E: Host<A>>(env: &E) -> u16 {
    silent_at(env.now_ns())
}

/// A connection that began at this tick had to send its SYN again. A call, for the sake of the stack.
#[inline(never)]
pub(super) fn unanswered<A: Address, E: Services<A> + Host<A> + Counters<A>>(
    env: &E,
    backend: u32,
    generation: u32,
    born: u32,
) {
    let Some(known) = env.backend(backend) else { return };
    if known.generation != generation || generation == 0 || known.silent != 0 || !is_watched(env) {
        return;
    }
    // Within one tick the two cannot be told apart. A backend that is asked more often has answered in a later one.
    let behind = born.wrapping_sub(known.answered);
    if known.answered == 0 || behind >> 31 == 0 {
        env.set_silent(backend, clock(env));
        env.count(Counter::BackendSilent);
    }
}

/// A backend has answered a connection. Returns whether outlier ejection judges it. A call, for the sake of the stack.
#[inline(never)]
pub(super) fn answered<A: Address, E: Services<A> + Host<A> + Counters<A>>(
    env: &E,
    backend: u32,
    generation: u32,
) -> bool {
    let Some(known) = env.backend(backend) else { return false };
    // The twin of a direct connection has none.
    if known.generation != generation || generation == 0 {
        return false;
    }
    // Not for each connection: where others read it there is no change to be fetched.
    let now = env.ticks().max(1);
    if known.answered != now {
        env.set_answered(backend, now);
    }
    if known.silent != 0 {
        env.set_silent(backend, 0);
        env.count(Counter::BackendBack);
    }
    known.rest != rest::OFF
}
