//! How many ticks per second the kernel's jiffies count, which the data path uses as its coarse clock.

use std::io::Read;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};

use super::Programs;

/// Values that `CONFIG_HZ` can have on the machines that matter.
const KNOWN: &[u32] = &[100, 200, 250, 300, 500, 1000];
const MEASURE: Duration = Duration::from_millis(60);

/// A measurement that has begun: the low 31 bits of the jiffies just after they changed, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct TickMeasurement {
    first: u32,
    begin: Instant,
}

impl TickMeasurement {
    /// Begins, by the program `ticks` if the object has it.
    pub(super) fn begin(programs: &mut Programs) -> Option<Self> {
        let (first, begin) = sample(programs)?;
        Some(Self { first, begin })
    }

    /// Ticks per second. Waits if not enough time has passed.
    pub(super) fn end(self, programs: &mut Programs) -> Option<u32> {
        std::thread::sleep(MEASURE.saturating_sub(self.begin.elapsed()));
        let (last, end) = sample(programs)?;
        let ticks = last.wrapping_sub(self.first) & 0x7fff_ffff;
        Some(nearest(ticks, end.duration_since(self.begin)))
    }
}

/// The value just after a change, and when: waiting for the edge makes the measurement exact to a fraction of a tick.
fn sample(programs: &mut Programs) -> Option<(u32, Instant)> {
    programs.ready("ticks").inspect_err(|error| tracing::debug!(%error, "ticks are not measured")).ok()?;
    let program: &mut SchedClassifier = programs.get_mut("ticks")?.try_into().ok()?;
    let read = || {
        let packet = [0u8; 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        program.test_run(options).ok().map(|result| result.return_value & 0x7fff_ffff)
    };
    let begin = Instant::now();
    let first = read()?;
    loop {
        let now = read()?;
        if now != first {
            return Some((now, Instant::now()));
        }
        if begin.elapsed() > Duration::from_millis(50) {
            return None;
        }
        std::thread::yield_now();
    }
}

fn nearest(ticks: u32, elapsed: Duration) -> u32 {
    let rate = f64::from(ticks) / elapsed.as_secs_f64();
    let distance = |hz: u32| (f64::from(hz).ln() - rate.max(1.0).ln()).abs();
    KNOWN.iter().copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(250)
}

/// `CONFIG_HZ` of the running kernel, where its configuration can be read.
pub(super) fn configured() -> Option<u32> {
    let release = nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned();
    let mut text = String::new();
    std::fs::File::open(format!("/boot/config-{release}")).ok()?.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("CONFIG_HZ=")).and_then(|hz| hz.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_rate_becomes_the_nearest_known_one() {
        let after = |ticks, ms| nearest(ticks, Duration::from_millis(ms));
        assert_eq!(after(15, 60), 250);
        assert_eq!(after(18, 60), 300);
        assert_eq!(after(6, 61), 100);
        assert_eq!(after(61, 60), 1000);
    }
}
