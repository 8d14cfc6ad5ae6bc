//! The choice of a backend: affinity first, then the frontend's algorithm.
//!
//! An algorithm is a file here, which picks in the kernel, and one in the agent (`plan/schedule`), which makes what it
//! picks from. It fills in a [`Choice`], or says by which name the packet is dropped.

mod bits;
pub(super) mod choice;
mod least;
mod maglev;
mod other;
mod random;
mod source_hash;
mod take;

pub use self::choice::Choice;
pub(super) use self::other::another;
pub use self::random::scaled;
use self::take::take;
use super::env::{Counters, Host, Services};
use crate::abi::{Address, AffinityKey, AffinityValue, Counter, SetRef, algorithm, backend_flag};

const SECOND_NS: u64 = 1_000_000_000;

/// Chooses a backend of a set that is not empty into `choice`, and starts the clock of a client that the Service knows.
/// `may_pass`: a silent or ejected backend may be passed over; none is where there is no handshake to be answered. One call after the
/// other, for the sake of the stack.
#[inline(always)]
pub(super) fn select<A: Address, E: Services<A> + Host<A> + Counters<A>>(
    env: &E,
    choice: &mut Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
    member: u16,
    may_pass: bool,
) -> Result<(), Counter> {
    begin(env, choice, client, set, member)?;
    if choice.sticky == 0 && choice.frontend.algorithm == algorithm::LEAST_CONNECTIONS {
        least::choose(env, choice, set)?;
    }
    let first = choice.id;
    if may_pass {
        other::pass_over(env, choice, client, set);
    }
    // Each new connection starts the client's clock anew. The first one of a client that is known by its address counts
    // once it is answered: anyone can send its first packet.
    let stays = choice.sticky != 0 && choice.id == first;
    if choice.frontend.affinity_secs != 0 && (stays || client.client.is_zero()) {
        note_affinity(env, client, choice.id, choice.backend.generation);
    }
    Ok(())
}

/// The client's last backend, or the one that the algorithm picks, unless that is a separate call.
#[inline(never)]
fn begin<A: Address, E: Services<A> + Host<A>>(
    env: &E,
    choice: &mut Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
    member: u16,
) -> Result<(), Counter> {
    let affine = choice.frontend.affinity_secs != 0;
    let sticky = affine && sticky_backend(env, choice, client, env.now_ns(), member);
    choice.sticky = u32::from(sticky);
    let later = choice.frontend.algorithm == algorithm::LEAST_CONNECTIONS;
    if sticky || later { Ok(()) } else { pick(env, choice, client, set) }
}

/// Notes the backend of a client.
#[inline(never)]
pub(super) fn note_affinity<A: Address, E: Services<A> + Host<A>>(
    env: &E,
    client: &AffinityKey<A>,
    backend: u32,
    generation: u32,
) {
    env.set_affinity(client, &AffinityValue { last_ns: env.now_ns(), backend, generation });
}

/// Picks by the frontend's algorithm. Values that this program does not know pick at random: the agent says so.
#[inline(always)]
fn pick<A: Address, E: Services<A> + Host<A>>(
    env: &E,
    choice: &mut Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
) -> Result<(), Counter> {
    let index = match choice.frontend.algorithm {
        algorithm::ROUND_ROBIN => env.turn(set),
        algorithm::SOURCE_HASH => source_hash::index(client, set),
        algorithm::MAGLEV => by_table(env, choice, client, set),
        _ => scaled(env.random(), set.count),
    };
    take(env, env.slot(set.base.wrapping_add(index)), choice)
}

/// Goes by the set's table. Without one, which is there before the frontend says so, any slot.
#[inline(never)]
fn by_table<A: Address, E: Services<A> + Host<A>>(
    env: &E,
    choice: &Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
) -> u32 {
    let place = maglev::place(client, choice.source, choice.frontend.schedule);
    match maglev::member(place, set.count, |byte| env.table(set.base, byte)) {
        Some(member) => member,
        None => scaled(env.random(), set.count),
    }
}

/// The client's last backend, if it is recent and still in the set.
#[inline(always)]
fn sticky_backend<A: Address, E: Services<A>>(
    env: &E,
    choice: &mut Choice<A>,
    key: &AffinityKey<A>,
    now: u64,
    member: u16,
) -> bool {
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
pub(super) fn member_flag(local: bool) -> u16 {
    if local { backend_flag::IN_LOCAL } else { backend_flag::IN_CLUSTER }
}
