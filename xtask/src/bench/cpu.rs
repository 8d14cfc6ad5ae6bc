//! One processor for all that is measured, another for the rest, and what the scheduler charged to whom.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

/// The processor on which clients and servers run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    number: usize,
    /// The thread that does softirqs there when they are too many to do at once.
    ksoftirqd: Option<i32>,
}

impl Cpu {
    /// This one, or the last of those that the process may use.
    pub(super) fn choose(number: Option<usize>) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the allowed processors")?;
        let usable = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
        let number = match number {
            Some(number) if usable(&number) => number,
            Some(number) => bail!("this process may not run on processor {number}"),
            None => (0..CpuSet::count()).rev().find(usable).context("no processor is allowed")?,
        };
        Ok(Self { number, ksoftirqd: ksoftirqd(number) })
    }

    /// Its number.
    pub(super) const fn number(self) -> usize {
        self.number
    }

    /// Ties the calling thread to this processor, in front of what else runs there.
    pub(super) fn bind(self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.number).context("no such processor")?;
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("cannot run on processor {} only", self.number))?;
        // On Linux this is the priority of the calling thread alone.
        // SAFETY: takes and gives plain numbers.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } != 0 {
            bail!("cannot raise the priority: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// Keeps the calling thread, and all that it starts from now on, away from this processor where there are others.
    pub(super) fn avoid(self) -> Result<()> {
        let mut set = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the allowed processors")?;
        set.unset(self.number).context("no such processor")?;
        if (0..CpuSet::count()).any(|cpu| set.is_set(cpu).unwrap_or(false)) {
            sched_setaffinity(Pid::from_raw(0), &set).context("cannot leave the processor of the bench")?;
        }
        Ok(())
    }

    /// Time that these threads, the calling one and the processor's softirq thread have had so far.
    ///
    /// A softirq that is done at once, as almost all are, is charged by the scheduler to the thread that it interrupts:
    /// here the one that sent the packet.
    pub(super) fn charged(self, threads: &[i32]) -> Result<Duration> {
        let own = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no clock of a thread")?);
        threads.iter().copied().chain(self.ksoftirqd).try_fold(own, |sum, thread| Ok(sum + run_time(thread)?))
    }
}

/// The calling thread, for [`Cpu::charged`].
pub(super) fn this_thread() -> i32 {
    gettid().as_raw()
}

/// More descriptors than the usual 1,024: each node has its own servers.
pub(super) fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("no limit of open files")?;
    nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}

fn run_time(thread: i32) -> Result<Duration> {
    let path = format!("/proc/{thread}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    nanos.map(Duration::from_nanos).with_context(|| format!("{path} does not begin with a time"))
}

fn ksoftirqd(cpu: usize) -> Option<i32> {
    let name = format!("ksoftirqd/{cpu}");
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        if comm.trim_end() == name { entry.file_name().to_str()?.parse().ok() } else { None }
    })
}

/// Waits a little for what was just started or changed to come to rest.
pub(super) fn settle() {
    thread::sleep(Duration::from_millis(300));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_busy_thread_is_charged_and_a_sleeping_one_is_not() {
        let cpu = Cpu { number: 0, ksoftirqd: None };
        let before = cpu.charged(&[]).unwrap();
        thread::sleep(Duration::from_millis(30));
        let slept = cpu.charged(&[]).unwrap().saturating_sub(before);
        assert!(slept < Duration::from_millis(15), "{slept:?}");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(60) {}
        let busy = cpu.charged(&[]).unwrap().saturating_sub(before + slept);
        assert!(busy > Duration::from_millis(5), "{busy:?}");
    }

    #[test]
    fn other_threads_are_charged_by_their_id() {
        let (own, id) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = thread::spawn(move || {
            own.send(this_thread()).unwrap();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(60) {}
            let _closed = stopped.recv();
        });
        let id = id.recv().unwrap();
        thread::sleep(Duration::from_millis(150));
        let charged = run_time(id).unwrap();
        assert!(charged > Duration::from_millis(5), "{charged:?}");
        drop(stop);
        other.join().unwrap();
    }
}
