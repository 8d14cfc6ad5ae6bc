//! A cgroup of the lab's own, for the threads whose sockets the node under test serves.
//!
//! A socket belongs to the cgroup of the thread that made it. Probes run on threads of the test's process, so the
//! cgroup is a `threaded` one below the process's own: threads may move into it without the rest of the process, and
//! the rule that inner cgroups with controllers hold no processes does not apply.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The file in a lab's folder that names its cgroups, a line each.
pub(super) const LIST: &str = "cgroups";

/// A cgroup v2 directory, gone on drop.
#[derive(Clone, Debug)]
pub struct Cgroup {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Cgroup {
    /// Makes an empty cgroup and notes it in the lab's folder, so that it also goes after a run that died.
    pub(super) fn create(lab: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = own()?.join(name);
        let list = lab.join(LIST);
        let noted = fs::read_to_string(&list).unwrap_or_default();
        fs::write(&list, format!("{noted}{}\n", path.display())).context("cannot note the lab's cgroup")?;
        fs::create_dir(&path).with_context(|| format!("cannot create the cgroup {}", path.display()))?;
        let cgroup = Self { inner: Arc::new(Inner { path }) };
        fs::write(cgroup.path().join("cgroup.type"), "threaded")
            .with_context(|| format!("cannot make {} a cgroup for threads", cgroup.path().display()))?;
        Ok(cgroup)
    }

    /// Its directory, for `--cgroup`.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Moves the calling thread into the cgroup. Only for threads that end there.
    pub fn enter(&self) -> Result<()> {
        fs::write(self.path().join("cgroup.threads"), "0")
            .with_context(|| format!("cannot enter the cgroup {}", self.path().display()))
    }
}

/// Deletes a cgroup. The kernel may take a moment to see that its last thread has ended.
pub(super) fn remove(path: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(path) {
            Err(err) if err.kind() == std::io::ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
}

/// Where cgroup2 is mounted.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut rows = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let row = rows.find(|row| row.get(2) == Some(&"cgroup2")).context("cgroup2 is not mounted")?;
    row.get(1).map(PathBuf::from).context("an unexpected line in the mounts")
}

/// The directory of the process's own cgroup.
fn own() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("cannot read the process's cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("the process is in no cgroup2")?;
    Ok(mount_point()?.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_alone_is_in_the_cgroup_and_the_cgroup_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::create(dir.path()).unwrap();
        let path = cgroup.path().to_owned();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let of_thread = || fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| cgroup.enter().map(|()| of_thread()));
            thread.join().unwrap().unwrap()
        });
        assert!(inside.contains(&name), "{inside}");
        assert!(!of_thread().contains(&name));
        drop(cgroup);
        assert!(!path.exists());
    }
}
