//! The backend with the fewest open connections for its weight, among some slots of a set: small sets as a whole.

use core::hint::black_box;

use super::bits::{is_below, low};
use super::choice::Choice;
use super::random::{next, scaled};
use super::take::take;
use crate::abi::{Address, Counter, SetRef};
use crate::datapath::env::{Counters, Host, Services};

/// Slots that are looked at: a set of so many as a whole. Of a larger one two would do against long queues (Mitzenmacher, "The
/// power of two choices in randomized load balancing", 1996).
const LOOKS: u32 = 8;

/// Bits of a rank that chance decides, so that of backends with as many connections each is as likely as the others.
const CHANCE: u32 = 12;
/// Bits of a rank behind the point.
const FRACTION: u32 = 16;
/// A rank behind all others: of a silent or ejected backend.
const LAST: u64 = 1 << 62;

/// All ones where a number is below another one, else 0.
#[inline(always)]
fn mask_below(number: u64, other: u64) -> u64 {
    0_u64.wrapping_sub(is_below(number, other))
}

/// A search for the least, slot by slot.
struct Search {
    /// The slot that is next.
    index: u32,
    /// The last number drawn.
    number: u32,
    /// Slots whose backend is not counted, and the first one's if it is to be left to `pass_over`.
    unsure: u32,
    /// The lowest rank so far, and the slot that has it.
    best: u64,
    chosen: u32,
}

impl Search {
    /// Looks at the next slot, if the set has one.
    #[inline(always)]
    fn step<A: Address, E: Services<A> + Counters<A>>(&mut self, env: &E, set: SetRef, look: u32) -> bool {
        if look >= set.count {
            return false;
        }
        self.number = next(self.number);
        let id = env.slot(set.base.wrapping_add(self.index));
        let Some(backend) = env.backend(id) else { return false };
        let (open, lost) = match env.open(id, backend.generation) {
            Some(open) => (open, 0),
            None => (0, 1),
        };
        self.unsure = self.unsure.wrapping_add(lost);
        let avoided = mask_below(0, backend.avoidance().into()) & LAST;
        let share = (u64::from(open) << FRACTION) / u64::from(backend.weight.max(1));
        let rank = share << CHANCE | u64::from(self.number >> (u32::BITS - CHANCE)) | avoided;
        let better = mask_below(rank, self.best);
        self.best ^= (self.best ^ rank) & better;
        self.chosen ^= (self.chosen ^ self.index) & low(better);
        if look == 0 {
            self.unsure = self.unsure.wrapping_add(low(avoided >> 32));
        }
        // Never the same one twice: all leaps together are shorter than the set.
        let after = self.index.wrapping_add(1).wrapping_add(scaled(self.number, set.count / LOOKS));
        self.index = after.wrapping_sub(set.count & !low(mask_below(after.into(), set.count.into())));
        true
    }

    /// Looks at the next four slots, as far as the set goes. `false`: it ends before.
    #[inline(always)]
    fn four<A: Address, E: Services<A> + Counters<A>>(&mut self, env: &E, set: SetRef, look: u32) -> bool {
        self.step(env, set, look)
            && self.step(env, set, look + 1)
            && self.step(env, set, look + 2)
            && self.step(env, set, look + 3)
    }
}

/// Chooses the backend with the fewest open connections for its weight; equal ones by chance.
///
/// A silent or ejected backend is left to the others, unless the first look falls on it: then `pass_over` says whether to
/// try it. Where one of those at hand is not counted, chance decides.
#[inline(never)]
pub(super) fn choose<A: Address, E: Services<A> + Host<A> + Counters<A>>(
    env: &E,
    choice: &mut Choice<A>,
    set: SetRef,
) -> Result<(), Counter> {
    let number = env.random();
    // The verifier would follow all from here once for each exact value that it knows: so what is counted counts from a number
    // that it does not know, and the best rank begins with one that is behind all others.
    let zero = black_box(number);
    let best = u64::from(number) | LAST | LAST >> 1;
    let first = scaled(number, set.count);
    let mut search = Search { index: first, number, unsure: number, best, chosen: first };
    // Written out: in a loop the verifier forgets where it has been, and goes there again.
    let _all = search.four(env, set, 0) && search.four(env, set, 4);
    let index = if search.unsure == zero { search.chosen } else { first };
    take(env, env.slot(set.base.wrapping_add(index)), choice)
}
