//! Makes sure that the pin path is on a BPF file system.

use std::fs;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::linux::mounts;

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

/// Creates the directories, and mounts a BPF file system where it has to: at `/sys/fs/bpf` for paths below it, at
/// the pin path itself otherwise.
pub fn ensure(pin_path: &Path) -> Result<PinDirectories, LoadError> {
    let existing = nearest_existing(pin_path);
    let on_bpffs =
        mounts::is_bpffs(existing).map_err(|source| LoadError::Read { path: existing.to_owned(), source })?;
    let mounted = if on_bpffs { None } else { Some(mount_for(pin_path)?) };
    let directories = PinDirectories {
        root: pin_path.to_owned(),
        maps: pin_path.join("maps"),
        links: pin_path.join("links"),
        mounted,
    };
    create(&directories.links)?;
    Ok(directories)
}

/// Makes the folder of the maps. Not before it is this agent's turn: another one may be exchanging it.
pub(super) fn ensure_maps(directories: &PinDirectories) -> Result<(), LoadError> {
    create(&directories.maps)
}

fn mount_for(pin_path: &Path) -> Result<PathBuf, LoadError> {
    let usual = Path::new(USUAL);
    let mount_point = if pin_path.starts_with(usual) && usual.is_dir() {
        usual.to_owned()
    } else {
        create(pin_path)?;
        let mut entries =
            fs::read_dir(pin_path).map_err(|source| LoadError::Read { path: pin_path.to_owned(), source })?;
        if entries.next().is_some() {
            return Err(LoadError::PinPathInUse { path: pin_path.to_owned() });
        }
        pin_path.to_owned()
    };
    mounts::mount_bpffs(&mount_point).map_err(|source| LoadError::MountBpffs {
        path: pin_path.to_owned(),
        mount_point: mount_point.clone(),
        source,
    })?;
    tracing::warn!(
        mount_point = %mount_point.display(),
        "mounted a BPF file system: pins live as long as this mount and are seen in this mount namespace only"
    );
    Ok(mount_point)
}

fn create(path: &Path) -> Result<(), LoadError> {
    fs::create_dir_all(path).map_err(|source| LoadError::CreateDirectory { path: path.to_owned(), source })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}
