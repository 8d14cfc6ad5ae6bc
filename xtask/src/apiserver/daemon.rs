//! A server process that never outlives this one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// Whether the process has been reaped, and a bell for those who wait for that.
#[derive(Debug, Default)]
struct Reaped {
    status: Mutex<Option<String>>,
    bell: Condvar,
}

impl Reaped {
    fn status(&self) -> MutexGuard<'_, Option<String>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    log: PathBuf,
    pid: Pid,
    reaped: Arc<Reaped>,
}

impl Daemon {
    /// Starts `command` with its output appended to `log`.
    ///
    /// A thread of its own starts the process and waits for it: the kernel kills the process when that thread ends
    /// (`PR_SET_PDEATHSIG` is about the thread), which it does with this process, however that ends, and not before.
    pub(super) fn spawn(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self> {
        let out = File::options().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("opening {}", log.display()))?;
        let err = out.try_clone().context("sharing a log file")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // SAFETY: the closure only makes a system call, which is safe between fork and exec.
        unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };

        let reaped = Arc::new(Reaped::default());
        let (started, start) = mpsc::sync_channel(1);
        let keeper = Arc::clone(&reaped);
        thread::spawn(move || match command.spawn() {
            Ok(child) => {
                let pid = Pid::from_raw(child.id().cast_signed());
                // Whoever asked waits for this; if it is gone, so is the reason to run.
                if started.send(Ok(pid)).is_ok() {
                    keep(child, pid, &keeper);
                }
            }
            Err(error) => {
                started.send(Err(error)).ok();
            }
        });
        let pid = start.recv().context("the thread that starts it died")?;
        let pid = pid.with_context(|| format!("starting {name}"))?;
        Ok(Self { name, log, pid, reaped })
    }

    /// Whether the process still runs.
    pub(super) fn is_running(&self) -> bool {
        self.reaped.status().is_none()
    }

    /// An error with the log's last lines if the process has ended.
    pub(super) fn check_running(&self) -> Result<()> {
        if let Some(status) = self.reaped.status().as_ref() {
            bail!("{} ended: {status}:\n{}", self.name, tail(&self.log, 20));
        }
        Ok(())
    }

    /// Stops the process without ending it.
    pub(super) fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Under the lock the process is not reaped meanwhile, so the id is still its own.
        let status = self.reaped.status();
        if status.is_some() {
            bail!("{} has ended", self.name);
        }
        kill(self.pid, signal).with_context(|| format!("sending {signal} to {}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.signal(Signal::SIGKILL).ok();
        let mut status = self.reaped.status();
        while status.is_none() {
            status = self.reaped.bell.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Waits for the end without reaping, then reaps under the lock that signals are sent under.
fn keep(mut child: Child, pid: Pid, reaped: &Reaped) {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    let mut status = reaped.status();
    *status = Some(child.wait().map_or_else(|error| error.to_string(), |status| status.to_string()));
    reaped.bell.notify_all();
}

/// The last lines of a log.
pub(super) fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let daemon = Daemon::spawn("sleep", sleep, dir.path().join("log")).unwrap();
        let pid = daemon.pid;
        assert!(daemon.is_running());
        drop(daemon);
        assert!(kill(pid, None).is_err());
    }

    #[test]
    fn daemon_that_ends_early_says_how_and_shows_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo no such flag; exit 3"]);
        let daemon = Daemon::spawn("sh", failing, dir.path().join("log")).unwrap();
        while daemon.is_running() {
            thread::yield_now();
        }
        let said = daemon.check_running().unwrap_err().to_string();
        assert!(said.contains("exit status: 3") && said.contains("no such flag"), "{said}");
    }
}
