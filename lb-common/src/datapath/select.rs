//! Backend choice: affinity first, then the algorithm.

use super::env::Env;
use super::scratch::Scratch;
use crate::abi::{Address, AffinityKey, AffinityValue, Counter, SetRef, backend_flag};

const SECOND_NS: u64 = 1_000_000_000;

/// Chooses a backend of a set that is not empty into `scratch`, and notes the choice where the Service has affinity.
#[inline(never)]
pub(super) fn select<A: Address, E: Env<A>>(
    env: &E,
    scratch: &mut Scratch<A>,
    client: A,
    set: SetRef,
    member: u16,
) -> Result<(), Counter> {
    if scratch.frontend.affinity_secs == 0 {
        return random(env, set, scratch);
    }
    let key = AffinityKey { client, service: scratch.frontend.service };
    let now = env.now_ns();
    if !affine(env, scratch, &key, now, member) {
        random(env, set, scratch)?;
    }
    // Each new connection starts the client's clock anew.
    let value = AffinityValue { last_ns: now, backend: scratch.backend_id, generation: scratch.backend.generation };
    env.set_affinity(&key, &value);
    Ok(())
}

/// The client's last backend, if it is recent and still in the set.
#[inline(always)]
fn affine<A: Address, E: Env<A>>(
    env: &E,
    scratch: &mut Scratch<A>,
    key: &AffinityKey<A>,
    now: u64,
    member: u16,
) -> bool {
    let Some(last) = env.affinity(key) else { return false };
    if now.saturating_sub(last.last_ns) > u64::from(scratch.frontend.affinity_secs) * SECOND_NS {
        return false;
    }
    let Some(backend) = env.backend(last.backend) else { return false };
    if backend.generation != last.generation
        || backend.service != scratch.frontend.service
        || backend.flags & member == 0
    {
        return false;
    }
    scratch.backend_id = last.backend;
    scratch.backend = backend;
    true
}

/// The flag of a backend that is in the set.
#[inline(always)]
pub(super) fn member(local: bool) -> u16 {
    if local { backend_flag::IN_LOCAL } else { backend_flag::IN_CLUSTER }
}

#[inline(always)]
#[allow(clippy::as_conversions, reason = "the high half of a 32 by 32 bit product is below `count`")]
#[allow(clippy::cast_possible_truncation, reason = "the high half of a 64-bit number fits 32 bits")]
fn random<A: Address, E: Env<A>>(env: &E, set: SetRef, scratch: &mut Scratch<A>) -> Result<(), Counter> {
    let index = set.base.wrapping_add(((u64::from(env.random()) * u64::from(set.count)) >> 32) as u32);
    let id = env.slot(index);
    match env.backend(id) {
        Some(backend) if id != 0 && backend.generation != 0 => {
            scratch.backend_id = id;
            scratch.backend = backend;
            Ok(())
        }
        _ => Err(Counter::DropStaleSlot),
    }
}
