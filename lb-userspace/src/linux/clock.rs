//! The kernel's clocks.
#![expect(unsafe_code, reason = "a system call that the libraries do not have")]

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time by `CLOCK_MONOTONIC`, which the kernel programs' times and the jiffies go by.
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// The same in nanoseconds.
pub fn monotonic_ns() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(0)
}

/// Whether somebody keeps the clock right (`adjtimex(2)`); none: it cannot be asked.
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: all-zero bytes are a valid `timex`: it has nothing but numbers.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex`; with `modes` 0 the kernel only fills it in.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    (state >= 0).then_some(asked.status & libc::STA_UNSYNC == 0)
}
