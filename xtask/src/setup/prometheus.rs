//! Prometheus and its `promtool`, which the tests of alerts and dashboard ask: those on the `PATH`, or Debian's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::packages;
use crate::cache;
use crate::command::{clean, find, run};

const PACKAGE: &str = "prometheus";

/// The two programs.
#[derive(Clone, Debug)]
pub struct Prometheus {
    /// The server.
    pub server: PathBuf,
    /// What checks rules and metrics.
    pub promtool: PathBuf,
}

impl Prometheus {
    /// Finds the programs, or unpacks Debian's package outside of the checkout: installed, it would start a service.
    pub fn find_or_fetch() -> Result<Self> {
        if let (Some(server), Some(promtool)) = (find("prometheus"), find("promtool")) {
            return Ok(Self { server, promtool });
        }
        let dir = cache::dir(PACKAGE)?;
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        // Only one of several test runs fetches; the others wait for it.
        let lock = File::create(dir.join("lock")).context("opening the lock")?;
        lock.lock().context("waiting for another fetch")?;
        let unpacked = Self::below(&dir.join("root"));
        if !unpacked.is_there() {
            fetch(&dir).context("no prometheus and promtool on the PATH, and Debian's cannot be fetched")?;
        }
        if !unpacked.is_there() {
            bail!("Debian's package {PACKAGE} has no prometheus or no promtool");
        }
        Ok(unpacked)
    }

    fn below(root: &Path) -> Self {
        let bin = root.join("usr/bin");
        Self { server: bin.join("prometheus"), promtool: bin.join("promtool") }
    }

    fn is_there(&self) -> bool {
        self.server.is_file() && self.promtool.is_file()
    }
}

fn fetch(dir: &Path) -> Result<()> {
    if find("dpkg-deb").is_none() || !packages::can_have(PACKAGE) {
        bail!("there is no apt-get with the package {PACKAGE}, or no dpkg-deb");
    }
    let download = tempfile::tempdir_in(dir).context("making a folder for the package")?;
    run(clean("apt-get").args(["-oAPT::Sandbox::User=root", "--quiet=2", "download", PACKAGE]).current_dir(&download))?;
    let mut files = fs::read_dir(&download).context("reading the folder of the package")?.flatten();
    let package = files.next().context("apt-get left no package")?.path();
    let fresh = download.path().join("root");
    run(clean("dpkg-deb").arg("--extract").arg(&package).arg(&fresh))?;
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).context("removing what is not whole")?;
    }
    fs::rename(&fresh, &root).context("placing what was unpacked")
}
