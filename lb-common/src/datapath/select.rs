//! Backend choice: affinity first, then the algorithm.

use super::env::Env;
use crate::abi::{Address, AffinityKey, AffinityValue, BackendValue, Counter, FrontendValue, SetRef, backend_flag};

const SECOND_NS: u64 = 1_000_000_000;

/// Chooses a backend of a set that is not empty, and notes the choice where the Service has affinity.
#[inline(always)]
pub(super) fn select<A: Address, E: Env<A>>(
    env: &E,
    frontend: &FrontendValue,
    set: SetRef,
    local: bool,
    client: A,
) -> Result<(u32, BackendValue<A>), Counter> {
    if frontend.affinity_secs == 0 {
        return random(env, set);
    }
    let member = if local { backend_flag::IN_LOCAL } else { backend_flag::IN_CLUSTER };
    let key = AffinityKey { client, service: frontend.service };
    let now = env.now_ns();
    let mut chosen = None;
    if let Some(last) = env.affinity(&key)
        && now.saturating_sub(last.last_ns) <= u64::from(frontend.affinity_secs) * SECOND_NS
        && let Some(backend) = env.backend(last.backend)
        && backend.generation == last.generation
        && backend.service == frontend.service
        && backend.flags & member != 0
    {
        chosen = Some((last.backend, backend));
    }
    let (id, backend) = match chosen {
        Some(kept) => kept,
        None => random(env, set)?,
    };
    // Each new connection starts the client's clock anew.
    env.set_affinity(&key, &AffinityValue { last_ns: now, backend: id, generation: backend.generation });
    Ok((id, backend))
}

#[inline(always)]
#[allow(clippy::as_conversions, reason = "the high half of a 32 by 32 bit product is below `count`")]
#[allow(clippy::cast_possible_truncation, reason = "the high half of a 64-bit number fits 32 bits")]
fn random<A: Address, E: Env<A>>(env: &E, set: SetRef) -> Result<(u32, BackendValue<A>), Counter> {
    let index = set.base + ((u64::from(env.random()) * u64::from(set.count)) >> 32) as u32;
    let id = env.slot(index);
    match env.backend(id) {
        Some(backend) if id != 0 && backend.generation != 0 => Ok((id, backend)),
        _ => Err(Counter::DropStaleSlot),
    }
}
