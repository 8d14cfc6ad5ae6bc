//! One network namespace: made, entered by threads, configured with `ip` and sysctls, gone on drop.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::cgroup::Cgroup;

/// A network namespace, kept by a bind mount so that `ip` and `nsenter` find it by its path.
#[derive(Clone, Debug)]
pub struct Netns {
    inner: Arc<Inner>,
    cgroup: Option<Cgroup>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    file: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Unmounts and deletes a namespace's file. What is already gone is fine: this also sweeps up after dead runs.
pub(super) fn remove(path: &Path) {
    let _gone_already = umount2(path, MntFlags::MNT_DETACH);
    let _gone_already = fs::remove_file(path);
}

impl Netns {
    /// Makes an empty namespace with its loopback up, reachable at `dir/name`.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let made = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace (root is needed)")?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cannot keep the network namespace at {}", path.display()))
        })
        .and_then(|()| File::open(&path).with_context(|| format!("cannot open {}", path.display())));
        let file = match made {
            Ok(file) => file,
            Err(err) => {
                remove(&path);
                return Err(err);
            }
        };
        let ns = Self { inner: Arc::new(Inner { name: name.to_owned(), path, file }), cgroup: None };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// The same namespace, whose threads now also enter this cgroup: their sockets belong to it.
    #[must_use]
    pub fn in_cgroup(&self, cgroup: &Cgroup) -> Self {
        Self { inner: Arc::clone(&self.inner), cgroup: Some(cgroup.clone()) }
    }

    /// The node's or Pod's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where the namespace is bound, for `nsenter --net=PATH`.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `f` on a thread inside the namespace. Sockets and child processes made there belong to it for good.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            self.enter()?;
            f()
        })
    }

    /// Moves the calling thread into the namespace. Only for threads that end there.
    pub fn enter(&self) -> Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.enter()?;
        }
        setns(&self.inner.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name()))
    }

    /// Runs lines of `ip` commands, in one process, inside the namespace.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.run(|| {
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot start `ip` (package iproute2)")?;
            if let Some(mut stdin) = child.stdin.take() {
                for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                    writeln!(stdin, "{line}").context("cannot write to `ip`")?;
                }
            }
            let output = child.wait_with_output().context("cannot wait for `ip`")?;
            if !output.status.success() {
                bail!("`ip` failed in {}: {}\n{lines}", self.name(), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    }

    /// Runs a program inside the namespace and returns its standard output.
    pub fn command(&self, program: &str, args: &[&str]) -> Result<String> {
        self.command_ending_in(program, args, &[0])
    }

    /// The same where other exit codes than 0 are no failure.
    pub fn command_ending_in(&self, program: &str, args: &[&str], codes: &[i32]) -> Result<String> {
        let output = self
            .run(|| Command::new(program).args(args).output().with_context(|| format!("cannot start `{program}`")))?;
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{program} {}` failed in {}: {}", args.join(" "), self.name(), stderr.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes settings below `/proc/sys/net` as the namespace sees them.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))?;
            }
            Ok(())
        })
    }
}

/// Runs `f` on a thread of its own: a namespace is a property of a thread. A panic goes on in the
/// caller.
fn in_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match thread::scope(|scope| scope.spawn(f).join()) {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
