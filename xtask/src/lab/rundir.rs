//! The folder of one lab: namespaces, bpffs, cgroups, manifests and logs; cleaned on drop, on a signal, and after dead runs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{cgroup, netns};

/// Labs live below this folder, one each.
const ROOT: &str = "/run/sluice-lab";

/// Labs of this process that are up; held while tearing down on a signal so that none is added meanwhile.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A lab's folder. Its lock file tells other runs that the lab is alive.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the folder and sweeps what dead runs have left.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(ROOT).with_context(|| format!("cannot create {ROOT}"))?;
        let root_lock = File::create(Path::new(ROOT).join(".lock")).context("cannot create the labs' lock")?;
        root_lock.lock().context("cannot lock the labs' folder")?;
        sweep();

        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = Path::new(ROOT).join(format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        live.push(path.clone());
        drop(live);
        let lock = File::create(path.join(".lock")).context("cannot create the lab's lock")?;
        lock.lock().context("cannot lock the lab")?;
        let dir = Self { path, _lock: lock };
        for sub in ["ns", "bpf", "manifests"] {
            fs::create_dir(dir.path.join(sub)).with_context(|| format!("cannot create {sub} of a lab"))?;
        }
        mount(Some("bpf"), &dir.bpf(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount bpffs at {}", dir.bpf().display()))?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its namespaces are bound.
    pub fn namespaces(&self) -> PathBuf {
        self.path.join("ns")
    }

    /// Its bpffs.
    pub fn bpf(&self) -> PathBuf {
        self.path.join("bpf")
    }

    /// Its folder of manifests, empty at first.
    pub fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    /// A cgroup for threads whose sockets an agent is to serve, see [`super::Netns::in_cgroup`].
    pub fn cgroup(&self) -> Result<cgroup::Cgroup> {
        cgroup::Cgroup::create(&self.path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        tear_down(&self.path);
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.path);
    }
}

/// From now on Ctrl-C and SIGTERM take down this process's labs before it ends with code 130.
pub fn clean_up_on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = ctrlc::set_handler(|| {
            let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
            live.iter().for_each(|path| tear_down(path));
            process::exit(130);
        });
    });
    result.context("cannot handle Ctrl-C")
}

/// Removes the labs of runs that died without cleaning up: their lock is free.
fn sweep() {
    let Ok(entries) = fs::read_dir(ROOT) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let dead = match File::open(path.join(".lock")) {
            Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            Err(err) => err.kind() == io::ErrorKind::NotFound,
        };
        if dead {
            tear_down(&path);
        }
    }
}

/// Kills the lab's agents, unmounts its namespaces and bpffs, deletes its files. Best effort by nature.
fn tear_down(path: &Path) {
    for pid in agents_of(path) {
        let _ended_already = kill(pid, Signal::SIGKILL);
    }
    for entry in fs::read_dir(path.join("ns")).into_iter().flatten().flatten() {
        netns::remove(&entry.path());
    }
    for line in fs::read_to_string(path.join(cgroup::LIST)).unwrap_or_default().lines() {
        cgroup::remove(Path::new(line));
    }
    let _not_mounted = umount2(&path.join("bpf"), MntFlags::MNT_DETACH);
    let _gone_already = fs::remove_dir_all(path);
}

/// Processes named `sluice` that were started with a path of this lab.
fn agents_of(lab: &Path) -> Vec<Pid> {
    let mut prefix = lab.as_os_str().as_bytes().to_vec();
    prefix.push(b'/');
    let of_lab = |command_line: &[u8]| {
        let mut args = command_line.split(|byte| *byte == 0);
        args.next().is_some_and(|program| program.ends_with(b"sluice")) && args.any(|arg| arg.starts_with(&prefix))
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| of_lab(&line)))
        .map(Pid::from_raw)
        .collect()
}
