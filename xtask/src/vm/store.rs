//! Keeps the kernels: fetched once, checked, unpacked, and reduced to what a guest needs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::kernels::{Kernel, Package};
use crate::cache;
use crate::command::{clean, find, output, run};

/// apt's own way to fetch a file and check its sum; it knows the machine's proxies.
const FETCH: &str = "/usr/lib/apt/apt-helper";
/// Modules that guests may want: whole folders, and single ones of the network drivers.
const MODULE_FOLDERS: [&str; 4] = ["net", "lib", "crypto", "arch"];
const NETWORK_DRIVERS: [&str; 12] =
    ["veth", "dummy", "macvlan", "ipvlan", "tun", "tap", "vrf", "ifb", "netkit", "vxlan", "geneve", "wireguard"];

/// A kernel on this machine.
pub(super) struct Stored {
    dir: PathBuf,
}

impl Stored {
    /// The kernel itself.
    pub(super) fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The folder that has its modules at `lib/modules`.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

/// Finds a kernel, or fetches it; an error if the archive no longer has it or cannot be reached.
pub(super) fn find_or_fetch(kernel: &Kernel) -> Result<Stored> {
    let base = cache::dir("kernels")?;
    let dir = base.join(kernel.release);
    fs::create_dir_all(&base).with_context(|| format!("making {}", base.display()))?;
    // Only one of several runs fetches; the others wait for it.
    let lock = File::create(base.join("lock")).context("opening the kernels' lock")?;
    lock.lock().context("waiting for another run")?;
    let stored = Stored { dir };
    if !stored.image().is_file() {
        let draft = tempfile::tempdir_in(&base).context("making a folder for a kernel")?;
        let root = draft.path().join("unpacked");
        for (number, package) in kernel.packages.iter().enumerate() {
            fetch(package, &draft.path().join(format!("{number}.deb")), &root)?;
        }
        let fresh = draft.path().join("fresh");
        reduce(kernel, &root, &fresh)?;
        fs::remove_dir_all(&stored.dir).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        fs::rename(&fresh, &stored.dir).with_context(|| format!("placing {}", stored.dir.display()))?;
    }
    Ok(stored)
}

fn fetch(package: &Package, file: &Path, root: &Path) -> Result<()> {
    let name = package.url.rsplit('/').next().unwrap_or(package.url);
    if !Path::new(FETCH).is_file() || find("dpkg-deb").is_none() {
        bail!("{name} is fetched with Debian's apt-helper and dpkg-deb, which are not here");
    }
    println!("fetching {name}");
    let mut helper = clean(FETCH);
    helper.args(["-oAPT::Sandbox::User=root", "download-file", package.url]).arg(file);
    output(helper.arg(format!("SHA256:{}", package.sha256)))
        .map_err(|error| reason(&error))
        .with_context(|| format!("{name} cannot be fetched (newer ones replace it in the archive: pin another)"))?;
    run(clean("dpkg-deb").arg("--extract").arg(file).arg(root))
}

/// apt's reason: the first of its errors, behind what was run and warnings.
fn reason(error: &anyhow::Error) -> anyhow::Error {
    let text = error.to_string();
    let reason = text.split_once("E: ").and_then(|(_, reason)| reason.lines().next()).unwrap_or(&text);
    anyhow::anyhow!("{}", reason.trim())
}

/// Takes the kernel and the modules that guests may want out of the unpacked packages.
fn reduce(kernel: &Kernel, unpacked: &Path, fresh: &Path) -> Result<()> {
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|path| unpacked.join(path).join(kernel.release))
        .into_iter()
        .find(|path| path.join("kernel").is_dir())
        .with_context(|| format!("the packages have no modules of {}", kernel.release))?;
    let target = fresh.join("root/lib/modules").join(kernel.release);
    for folder in MODULE_FOLDERS {
        let from = modules.join("kernel").join(folder);
        if from.is_dir() {
            copy_tree(&from, &target.join("kernel").join(folder), &|_| true)?;
        }
    }
    let wanted = |path: &Path| {
        NETWORK_DRIVERS.iter().any(|driver| {
            let is = |part: &std::ffi::OsStr| part.to_string_lossy().split('.').next() == Some(driver);
            path.iter().any(is)
        })
    };
    copy_tree(&modules.join("kernel/drivers/net"), &target.join("kernel/drivers/net"), &wanted)?;
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let to = target.join(list);
        // depmod grumbles where one is missing.
        fs::copy(modules.join(list), &to).map(drop).or_else(|_absent| fs::write(&to, ""))?;
    }
    let depmod = find("depmod").context("no depmod (package kmod)")?;
    output(clean(depmod).arg("-b").arg(fresh.join("root")).arg(kernel.release))?;
    let image = [unpacked.join("boot").join(format!("vmlinuz-{}", kernel.release)), modules.join("vmlinuz")]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("the packages have no kernel {}", kernel.release))?;
    fs::copy(&image, fresh.join("vmlinuz")).with_context(|| format!("copying {}", image.display()))?;
    Ok(())
}

/// Copies the files of a folder that are wanted by their path in it.
fn copy_tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    for file in files(from)? {
        let inner = file.strip_prefix(from)?;
        if wanted(inner) {
            let target = to.join(inner);
            fs::create_dir_all(target.parent().unwrap_or(to))?;
            fs::copy(&file, &target).with_context(|| format!("copying {}", file.display()))?;
        }
    }
    Ok(())
}

/// All files below a folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_error_of_apt_is_the_reason() {
        let told = "`apt-helper download-file x` failed: exit status: 100: E: Failed to fetch x  404  Not Found\nE: Download Failed";
        assert_eq!(reason(&anyhow::anyhow!(told)).to_string(), "Failed to fetch x  404  Not Found");
        assert_eq!(reason(&anyhow::anyhow!("no such program")).to_string(), "no such program");
    }
}
