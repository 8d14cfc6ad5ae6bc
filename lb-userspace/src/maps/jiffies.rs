//! The kernel's coarse clock, by which the flow tables keep times, read from outside of the kernel.

use nix::time::{ClockId, clock_gettime};

/// The kernel's jiffies begin so many seconds before they overflow (`INITIAL_JIFFIES`, include/linux/jiffies.h).
const BEFORE_OVERFLOW: u64 = 300;

/// The clock.
#[derive(Clone, Copy, Debug)]
pub struct Jiffies {
    per_second: u32,
    now: u32,
}

impl Jiffies {
    /// Now. `per_second`: `CONFIG_HZ`, as the agent has measured it; 0: not known, and no times are.
    pub fn now(per_second: u32) -> Self {
        let uptime = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
            let (secs, nanos) = (time.tv_sec(), time.tv_nsec());
            u64::try_from(secs).unwrap_or(0) * 1000 + u64::try_from(nanos).unwrap_or(0) / 1_000_000
        });
        Self::at(per_second, uptime)
    }

    fn at(per_second: u32, uptime_millis: u64) -> Self {
        let hz = u64::from(per_second);
        let since_start = u64::from(u32::MAX) + 1 - BEFORE_OVERFLOW * hz + uptime_millis * hz / 1000;
        // The low half, as the tables have it.
        let now = u32::try_from(since_start & u64::from(u32::MAX)).unwrap_or(0);
        Self { per_second, now }
    }

    /// Seconds since then; `None`: not known.
    pub fn secs_since(self, then: u32) -> Option<u64> {
        let passed = self.now.wrapping_sub(then);
        // A moment ahead of this clock is now.
        let passed = if passed > u32::MAX / 2 { 0 } else { passed };
        (self.per_second > 0 && then != 0).then(|| u64::from(passed / self.per_second))
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
