//! Another backend than the one at hand: because that has just left a SYN unanswered, is known to
//! leave them so, or is ejected.

use core::hint::black_box;

use super::bits::{is_below, low};
use super::choice::Choice;
use super::random::{next, scaled};
use super::take::take;
use super::{maglev, source_hash};
use crate::abi::{Address, AffinityKey, BackendValue, Counter, SILENT, SetRef, algorithm, rest};
use crate::datapath::env::{Counters, Host, Services};
use crate::datapath::silence;

/// Places of a set that are looked at: small sets as a whole.
const PLACES: u32 = 16;

/// A silent backend is tried by a packet's connection after so many units of 2^28 ns: that one loses a second.
const TRY_BY_PACKET: u16 = 8;

/// The same for a socket's connection, which hangs as long as the backend is silent. By then the agent has tried: where it
/// runs no socket does.
const TRY_BY_SOCKET: u16 = 28;

/// What a look at a set has found.
#[derive(Clone, Copy)]
struct Found(u64);

impl Found {
    /// More members are silent or ejected than may be passed over, and the one at hand is one of those that are not.
    const STAYS: u64 = 1 << 63;

    /// Another member that is neither; 0: none.
    #[inline(always)]
    const fn speaking(self) -> u32 {
        low(self.0)
    }

    /// Any other member; 0: none.
    #[inline(always)]
    const fn any(self) -> u32 {
        low((self.0 & !Self::STAYS) >> 32)
    }

    /// Whether the one at hand may be passed over.
    #[inline(always)]
    const fn may_go(self) -> bool {
        self.0 & Self::STAYS == 0
    }
}

/// A look at a set, place by place.
struct Look {
    /// Where the next place is.
    index: u32,
    /// The last number drawn.
    number: u32,
    /// A zero that the verifier does not know. Numbers whose exact value it knows, and branches, make it follow each place
    /// once for each: so both counts begin here, and comparisons are the signs of differences.
    zero: u32,
    /// Members that are neither silent nor ejected.
    speaking: u32,
    /// Members that are, with lower ids than the one at hand.
    before: u32,
    /// One of those that are neither.
    chosen: u32,
    /// Any other member.
    any: u32,
}

impl Look {
    /// Looks at the next four places, as far as the set goes. `false`: it ends before.
    #[inline(always)]
    fn four<A: Address, E: Services<A>>(&mut self, env: &E, choice: &Choice<A>, set: SetRef, place: u32) -> bool {
        self.step(env, choice, set, place)
            && self.step(env, choice, set, place + 1)
            && self.step(env, choice, set, place + 2)
            && self.step(env, choice, set, place + 3)
    }

    /// Looks at the next place, if the set has one.
    #[inline(always)]
    fn step<A: Address, E: Services<A>>(&mut self, env: &E, choice: &Choice<A>, set: SetRef, place: u32) -> bool {
        if place >= set.count {
            return false;
        }
        let id = env.slot(set.base.wrapping_add(self.index));
        self.index = self.index.wrapping_add(1);
        self.index = self.index.wrapping_mul(low(is_below(self.index.into(), set.count.into())));
        let Some(backend) = env.backend(id) else { return true };
        if id == choice.id {
            return true;
        }
        self.any = id;
        if backend.is_avoided() {
            self.before = self.before.wrapping_add(low(is_below(id.into(), choice.id.into())));
            return true;
        }
        self.speaking = self.speaking.wrapping_add(1);
        self.number = next(self.number);
        if scaled(self.number, self.speaking.wrapping_sub(self.zero)) == 0 {
            self.chosen = id;
        }
        true
    }
}

/// Looks for others than `choice.id`, one place after the other from where the number leads to. Of those that are
/// neither silent nor ejected each is as likely as the others.
///
/// At most half of the places are passed over: those of the members with the lowest ids that are.
#[inline(never)]
fn look_around<A: Address, E: Services<A>>(env: &E, choice: &Choice<A>, set: SetRef, number: u32) -> Found {
    let zero = black_box(number);
    let index = scaled(number, set.count);
    let mut look = Look { index, number, zero, speaking: number, before: number, chosen: 0, any: 0 };
    // Written out: the verifier forgets where it has been in a loop of many rounds, and goes there again.
    let _all = look.four(env, choice, set, 0)
        && look.four(env, choice, set, 4)
        && look.four(env, choice, set, 8)
        && look.four(env, choice, set, 12);
    let (before, places) = (look.before.wrapping_sub(zero), PLACES.min(set.count));
    let stays = if before < places / 2 { 0 } else { Found::STAYS };
    Found(u64::from(look.chosen) | u64::from(look.any) << 32 | stays)
}

/// Chooses another backend of a set than `choice.id`, at random whatever the algorithm: by the algorithm it would be the
/// same one. `false`: none was found, and the choice is as it was.
#[inline(never)]
pub(in crate::datapath) fn another<A: Address, E: Services<A> + Host<A>>(
    env: &E,
    choice: &mut Choice<A>,
    set: SetRef,
) -> bool {
    let found = look_around(env, choice, set, env.random());
    let id = if found.speaking() == 0 { found.any() } else { found.speaking() };
    id != 0 && take(env, id, choice).is_ok()
}

/// If the backend at hand is silent or ejected: takes another one of the set, unless it is to be tried, or too many are. Where
/// the client decides which, it decides here, too.
#[inline(never)]
pub(super) fn pass_over<A: Address, E: Services<A> + Host<A> + Counters<A>>(
    env: &E,
    choice: &mut Choice<A>,
    client: &AffinityKey<A>,
    set: SetRef,
) {
    if !choice.backend.is_avoided() {
        return;
    }
    let number = match choice.frontend.algorithm {
        algorithm::SOURCE_HASH => source_hash::high(source_hash::hash(client)),
        algorithm::MAGLEV => maglev::hash(client, choice.source),
        _ => env.random(),
    };
    let found = look_around(env, choice, set, number);
    if found.speaking() == 0 || !found.may_go() || is_tried(env, choice, client) {
        return;
    }
    let silent = choice.backend.silent != 0;
    if take(env, found.speaking(), choice).is_ok() {
        env.count(if silent { Counter::SilentPassedOver } else { Counter::EjectedPassedOver });
    }
}

/// Whether this connection is to try the backend at hand.
#[inline(never)]
fn is_tried<A: Address, E: Services<A> + Host<A>>(env: &E, choice: &Choice<A>, client: &AffinityKey<A>) -> bool {
    let BackendValue { silent, rest, .. } = choice.backend;
    let turn = scaled(env.random(), u32::from(rest));
    if rest == rest::EJECTED || turn != 0 {
        return false;
    }
    // What was found out before that was turned off does not count.
    if silent == 0 || !silence::is_watched(env) {
        return true;
    }
    let now = silence::clock(env);
    let patience = if client.client.is_zero() { TRY_BY_SOCKET } else { TRY_BY_PACKET };
    if now.wrapping_sub(silent) & !SILENT < patience {
        return false;
    }
    env.set_silent(choice.id, now);
    true
}
