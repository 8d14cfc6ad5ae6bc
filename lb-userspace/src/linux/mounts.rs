//! The table of mounts, and which file system a path is on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

/// `BPF_FS_MAGIC`, linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC`, linux/magic.h.
const CGROUP2_MAGIC: u32 = 0x6367_7270;

/// The table of mounts of this process; empty if it cannot be read.
pub fn table() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// Paths at which a file system of this type is mounted. Names with blanks, which are escaped in the table, are left
/// out.
pub fn mounted(table: &str, kind: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(move |line| {
        let mut words = line.split(' ').skip(1);
        let (path, found) = (words.next()?, words.next()?);
        (found == kind && !path.contains('\\')).then(|| PathBuf::from(path))
    })
}

/// Where cgroup v2 is mounted.
pub fn cgroup2_mount(table: &str) -> Option<PathBuf> {
    mounted(table, "cgroup2").next()
}

/// Files to which namespaces are bound.
pub fn bound_namespaces(table: &str) -> impl Iterator<Item = PathBuf> {
    mounted(table, "nsfs")
}

/// Whether a path is on a BPF file system.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    has_magic(path, BPF_FS_MAGIC)
}

/// Whether a path is on cgroup v2.
pub fn is_cgroup2(path: &Path) -> io::Result<bool> {
    has_magic(path, CGROUP2_MAGIC)
}

fn has_magic(path: &Path, magic: u32) -> io::Result<bool> {
    let FsType(found) = statfs(path)?.filesystem_type();
    Ok(i128::from(found) & 0xffff_ffff == i128::from(magic))
}

/// Mounts a BPF file system that only root may look into.
pub fn mount_bpffs(mount_point: &Path) -> io::Result<()> {
    Ok(mount(Some("bpf"), mount_point, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn namespaces_bound_anywhere_are_found_in_the_table_of_mounts() {
        let mounts = "proc /proc proc rw 0 0\nnsfs /run/lab/ns/br1 nsfs rw 0 0\nnsfs /run/netns/x nsfs rw 0 0\n";
        let found: Vec<_> = bound_namespaces(mounts).collect();
        assert_eq!(found, [PathBuf::from("/run/lab/ns/br1"), PathBuf::from("/run/netns/x")]);
    }

    #[test]
    fn file_systems_are_told_by_their_magic_number() {
        assert!(!is_cgroup2(Path::new("/proc")).unwrap());
        assert!(!is_bpffs(Path::new("/proc")).unwrap());
        assert!(is_cgroup2(Path::new("/no/such/path")).is_err());
    }
}
