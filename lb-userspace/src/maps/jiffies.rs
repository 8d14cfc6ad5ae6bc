//! The kernel's coarse clock, by which the flow tables keep times, read from outside of the kernel.

use std::time::Duration;

use crate::linux::clock;

/// The kernel's jiffies, low 32 bits, worked out from `CLOCK_MONOTONIC`: the kernel counts them by that clock.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// Ticks per second, `CONFIG_HZ`.
    pub per_second: u32,
}

impl Ticks {
    /// Now.
    pub fn now(self) -> u32 {
        self.at(clock::monotonic())
    }

    /// So long after the clock's beginning.
    fn at(self, uptime: Duration) -> u32 {
        let hz = u64::from(self.per_second.max(1));
        // TICK_NSEC, include/linux/jiffies.h.
        let tick_ns = (1_000_000_000 + hz / 2) / hz;
        let ticks = u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX) / tick_ns;
        // INITIAL_JIFFIES: the counter wraps five minutes after boot.
        let low = u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0);
        low.wrapping_sub(self.per_second.wrapping_mul(300))
    }

    /// Time since `seen`; a time in the future is now.
    pub fn since(self, now: u32, seen: u32) -> Duration {
        let ticks = now.wrapping_sub(seen);
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        Duration::from_secs_f64(f64::from(ticks) / f64::from(self.per_second.max(1)))
    }
}

/// The clock.
#[derive(Clone, Copy, Debug)]
pub struct Jiffies {
    per_second: u32,
    now: u32,
}

impl Jiffies {
    /// Now. `per_second`: `CONFIG_HZ`, as the agent has measured it; 0: not known, and no times are.
    pub fn now(per_second: u32) -> Self {
        Self { per_second, now: Ticks { per_second }.now() }
    }

    #[cfg(test)]
    fn at(per_second: u32, uptime_millis: u64) -> Self {
        Self { per_second, now: Ticks { per_second }.at(Duration::from_millis(uptime_millis)) }
    }

    /// Seconds since then; `None`: not known.
    pub fn secs_since(self, then: u32) -> Option<u64> {
        let Self { per_second, now } = self;
        (per_second > 0 && then != 0).then(|| Ticks { per_second }.since(now, then).as_secs())
    }

    /// The later of two times.
    pub fn later(a: u32, b: u32) -> u32 {
        if b.wrapping_sub(a) <= u32::MAX / 2 { b } else { a }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_across_the_overflow() {
        let hz = 250;
        // Five minutes after the start the jiffies are 0.
        let then = Jiffies::at(hz, 290_000).now;
        assert_eq!(then, 0u32.wrapping_sub(10 * hz));
        let later = Jiffies::at(hz, 310_000);
        assert_eq!((later.now, later.secs_since(then)), (10 * hz, Some(20)));
        assert_eq!(later.secs_since(later.now + 3), Some(0));
        assert_eq!((Jiffies::at(0, 310_000).secs_since(then), later.secs_since(0)), (None, None));
        assert_eq!((Jiffies::later(then, 5), Jiffies::later(5, then)), (5, 5));
    }
}
