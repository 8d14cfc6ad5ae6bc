//! How often refusals are answered. Who sends much to what is not there, under whatever addresses, must not make the node
//! send as much; whoever asks as people and programs do is always answered. The kernel limits its ICMP errors alike
//! (`icmp_msgs_per_sec`, `icmp_ratelimit`).

use super::env::Env;
use crate::abi::filter::address_hash;
use crate::abi::{Address, refusals};

/// What a bucket lets through, on each processor.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds between two answers in the long run.
    interval: u64,
    /// How many may come at once.
    burst: u64,
}

/// To one client, or to those few that share its bucket.
const CLIENT: Rate = Rate { interval: 1_000_000, burst: 1_000 };
/// To all.
const ALL: Rate = Rate { interval: 100_000, burst: 10_000 };

/// Half-open flows that are moved out of the way: two connections of a client with one tuple, begun at once, are rare.
const MOVES: Rate = Rate { interval: 50_000_000, burst: 64 };

/// Whether a half-open flow may be moved to the established ones, where nobody pushes it out; then it counts.
#[inline(never)]
pub(super) fn may_move<A: Address, E: Env<A>>(env: &E) -> bool {
    take(env, refusals::MOVES, MOVES)
}

/// Whether an answer to this client is within the limits; then it counts. A client that is over its own takes nothing from
/// others.
#[inline(never)]
pub(super) fn may_answer<A: Address, E: Env<A>>(env: &E, client: A) -> bool {
    take(env, refusals::of_client(address_hash(client)), CLIENT) && take(env, refusals::ALL, ALL)
}

#[inline(always)]
fn take<A: Address, E: Env<A>>(env: &E, bucket: u32, rate: Rate) -> bool {
    match taken(env.refusal_clock(bucket), env.now_ns(), rate) {
        Some(clock) => {
            env.set_refusal_clock(bucket, clock);
            true
        }
        None => false,
    }
}

/// A bucket's clock after one more answer; `None`: there is no room for it. The clock says when the bucket is empty, and runs
/// ahead by an interval for each answer.
#[inline(always)]
const fn taken(clock: u64, now: u64, rate: Rate) -> Option<u64> {
    let clock = if clock > now { clock } else { now };
    if clock - now >= rate.interval * rate.burst { None } else { Some(clock + rate.interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many answers, one each `every` ns, are let through.
    fn let_through(asked: u64, every: u64) -> usize {
        let mut clock = 0;
        let asks = (0..asked).map(|n| 1_000_000_000 + n * every);
        asks.filter(|now| taken(clock, *now, CLIENT).map(|next| clock = next).is_some()).count()
    }

    #[test]
    fn who_asks_no_faster_than_the_limit_is_always_answered() {
        assert_eq!(let_through(100_000, 1_000_000), 100_000);
        assert_eq!(let_through(1_000, 0), 1_000);
    }

    #[test]
    fn a_flood_is_answered_at_the_limit() {
        // 10 s at 100,000 a second: a burst, and 1,000 a second.
        let answered = let_through(1_000_000, 10_000);
        assert!((10_900..=11_100).contains(&answered), "{answered}");
    }

    #[test]
    fn few_half_open_flows_are_moved_however_many_ask() {
        let mut clock = 0;
        // 10 s at 100,000 a second.
        let asks = (0..1_000_000).map(|n| 1_000_000_000 + n * 10_000);
        let moved = asks.filter(|now| taken(clock, *now, MOVES).map(|next| clock = next).is_some()).count();
        assert!((260..=270).contains(&moved), "{moved}");
    }

    #[test]
    fn a_bucket_fills_while_nobody_asks() {
        let now = 5_000_000_000;
        let full = now + CLIENT.interval * CLIENT.burst;
        assert_eq!(taken(full, now, CLIENT), None);
        assert_eq!(taken(full, now + CLIENT.interval, CLIENT), Some(full + CLIENT.interval));
        assert_eq!(taken(full, full + 1, CLIENT), Some(full + 1 + CLIENT.interval));
    }
}
