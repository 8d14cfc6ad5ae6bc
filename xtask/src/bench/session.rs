//! A separate session for a bench, in front of all others on a busy machine.
//!
//! Where the kernel groups processes by session to share the processors out among them (`sched_autogroup_enabled`), a
//! thread's priority counts within its session only. So the bench runs in a child with its own session, whose
//! priority is raised. What is raised goes with that session.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

/// Set in the child.
const MARK: &str = "SLUICE_BENCH_SESSION";

/// The child, for the handler of Ctrl-C.
static CHILD: Mutex<Option<Pid>> = Mutex::new(None);

/// Runs `bench` in a child of this very program, started with the same arguments, or here if this is that child.
pub(super) fn in_front(bench: impl FnOnce() -> Result<()>) -> Result<()> {
    if env::var_os(MARK).is_some() {
        return bench();
    }
    let mut child = start()?;
    let pid = i32::try_from(child.id()).map(Pid::from_raw).context("a process id out of range")?;
    *CHILD.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
    // The child's own handler cleans up; this process ends after it.
    ctrlc::set_handler(|| {
        if let Some(child) = *CHILD.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ended_already = kill(child, Signal::SIGTERM);
        }
    })
    .context("cannot handle Ctrl-C")?;
    let status = child.wait().context("cannot wait for the bench")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

fn start() -> Result<Child> {
    let own = env::current_exe().context("cannot find the running program")?;
    let mut command = Command::new(own);
    command.args(env::args_os().skip(1)).env(MARK, "1");
    // SAFETY: between fork and exec only two system calls are made.
    unsafe { command.pre_exec(|| lead_session().map_err(Into::into)) };
    command.spawn().context("cannot start the bench")
}

fn lead_session() -> Result<(), Errno> {
    set_pdeathsig(Signal::SIGTERM)?;
    setsid().map(drop)
}

/// Puts the session in front, once nothing is left to build. Best effort: without it the bench only takes longer.
pub(super) fn raise() {
    let _not_grouped_or_not_allowed = fs::write("/proc/self/autogroup", "-20");
}
