//! Backend choice: affinity first, then the algorithm.

use super::env::Env;
use crate::abi::{Address, AffinityKey, AffinityValue, BackendValue, Counter, FrontendValue, SetRef, backend_flag};

const SECOND_NS: u64 = 1_000_000_000;

/// A frontend and the backend that was chosen for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<A> {
    /// The frontend.
    pub(super) frontend: FrontendValue,
    /// The chosen backend's id.
    pub(super) id: u32,
    /// The chosen backend.
    pub(super) backend: BackendValue<A>,
}

/// Chooses a backend of a set that is not empty into `choice`, and notes it where the Service has affinity.
#[inline(never)]
pub(super) fn select<A: Address, E: Env<A>>(
    env: &E,
    choice: &mut Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
    member: u16,
) -> Result<(), Counter> {
    if choice.frontend.affinity_secs == 0 {
        return random(env, set, choice);
    }
    let now = env.now_ns();
    if !affine(env, choice, client, now, member) {
        random(env, set, choice)?;
    }
    // Each new connection starts the client's clock anew.
    let value = AffinityValue { last_ns: now, backend: choice.id, generation: choice.backend.generation };
    env.set_affinity(client, &value);
    Ok(())
}

/// The client's last backend, if it is recent and still in the set.
#[inline(always)]
fn affine<A: Address, E: Env<A>>(env: &E, choice: &mut Choice<A>, key: &AffinityKey<A>, now: u64, member: u16) -> bool {
    let Some(last) = env.affinity(key) else { return false };
    if now.saturating_sub(last.last_ns) > u64::from(choice.frontend.affinity_secs) * SECOND_NS {
        return false;
    }
    let Some(backend) = env.backend(last.backend) else { return false };
    if backend.generation != last.generation
        || backend.service != choice.frontend.service
        || backend.flags & member == 0
    {
        return false;
    }
    choice.id = last.backend;
    choice.backend = backend;
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
fn random<A: Address, E: Env<A>>(env: &E, set: SetRef, choice: &mut Choice<A>) -> Result<(), Counter> {
    let index = set.base.wrapping_add(((u64::from(env.random()) * u64::from(set.count)) >> 32) as u32);
    let id = env.slot(index);
    match env.backend(id) {
        Some(backend) if id != 0 && backend.generation != 0 => {
            choice.id = id;
            choice.backend = backend;
            Ok(())
        }
        _ => Err(Counter::DropStaleSlot),
    }
}
