//! Makes sure that the pin path is on a BPF file system.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

use super::AttachError;

/// `BPF_FS_MAGIC`, linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
/// Where the kernel offers a mount point.
const USUAL: &str = "/sys/fs/bpf";

/// Directories for pins, on a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDirectories {
    /// `--pin-path`.
    pub root: PathBuf,
    /// Pinned maps.
    pub maps: PathBuf,
    /// Pinned links.
    pub links: PathBuf,
    /// Where this process mounted a BPF file system, if it had to.
    pub mounted: Option<PathBuf>,
}

/// Creates the directories, and mounts a BPF file system where there is none: at `/sys/fs/bpf` for paths below it, at
/// the pin path itself otherwise.
pub fn ensure(pin_path: &Path) -> Result<PinDirectories, AttachError> {
    let mounted = if is_bpffs(nearest_existing(pin_path))? { None } else { Some(mount_for(pin_path)?) };
    let directories = PinDirectories {
        root: pin_path.to_owned(),
        maps: pin_path.join("maps"),
        links: pin_path.join("links"),
        mounted,
    };
    for path in [&directories.maps, &directories.links] {
        create(path)?;
    }
    Ok(directories)
}

fn mount_for(pin_path: &Path) -> Result<PathBuf, AttachError> {
    let usual = Path::new(USUAL);
    let mount_point = if pin_path.starts_with(usual) && usual.is_dir() {
        usual.to_owned()
    } else {
        create(pin_path)?;
        let mut entries =
            fs::read_dir(pin_path).map_err(|source| AttachError::Read { path: pin_path.to_owned(), source })?;
        if entries.next().is_some() {
            return Err(AttachError::PinPathInUse { path: pin_path.to_owned() });
        }
        pin_path.to_owned()
    };
    mount(Some("bpf"), &mount_point, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(|source| {
        AttachError::MountBpffs { path: pin_path.to_owned(), mount_point: mount_point.clone(), source }
    })?;
    tracing::warn!(
        mount_point = %mount_point.display(),
        "mounted a BPF file system: pins live as long as this mount and are seen in this mount namespace only"
    );
    Ok(mount_point)
}

fn create(path: &Path) -> Result<(), AttachError> {
    fs::create_dir_all(path).map_err(|source| AttachError::CreateDirectory { path: path.to_owned(), source })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

fn is_bpffs(path: &Path) -> Result<bool, AttachError> {
    let info = statfs(path).map_err(|errno| AttachError::Read { path: path.to_owned(), source: errno.into() })?;
    let FsType(magic) = info.filesystem_type();
    Ok(i128::from(magic) & 0xffff_ffff == i128::from(BPF_FS_MAGIC))
}
