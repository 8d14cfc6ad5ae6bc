//! Finds the node's network namespaces and brings threads into them.
//!
//! Only paths are remembered: an open handle, or a netlink socket, would keep a namespace alive after its Pod.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::DestroyError;
use crate::linux::{mounts, netns, processes};

/// Where container runtimes, CNI plugins and `ip netns` bind namespaces to files.
const DIRECTORIES: [&str; 4] = ["/run/netns", "/var/run/netns", "/run/docker/netns", "/var/run/docker/netns"];

/// Namespaces remembered at most. What does not fit is looked for again.
const KNOWN: usize = 1 << 14;

/// What a search for namespaces came across.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Namespaces that can be entered.
    pub namespaces: usize,
    /// Namespaces that are there and may not be entered (`CAP_SYS_ADMIN`).
    pub refused: usize,
    /// Processes that were looked at.
    pub processes: usize,
    /// Processes whose namespace may not be looked at (`CAP_SYS_PTRACE`).
    pub unreadable: usize,
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} network namespaces, found by {} processes and bind mounts", self.namespaces, self.processes)?;
        if self.refused > 0 {
            write!(f, "; {} more may not be entered (CAP_SYS_ADMIN)", self.refused)?;
        }
        if self.unreadable > 0 {
            write!(f, "; those of {} more processes may not be seen (CAP_SYS_PTRACE)", self.unreadable)?;
        }
        Ok(())
    }
}

/// The namespaces that were found last, by cookie.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    paths: HashMap<u64, PathBuf>,
}

impl Namespaces {
    /// Brings the calling thread into a namespace; false if it is not known, or not there any more.
    pub(super) fn enter(&mut self, netns_cookie: u64) -> Result<bool, DestroyError> {
        let Some(path) = self.paths.get(&netns_cookie) else { return Ok(false) };
        match netns::enter(path) {
            // Process ids and inode numbers are used again, cookies are not.
            Ok(cookie) if cookie == netns_cookie => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::EPERM) => {
                Err(DestroyError::Enter { netns_cookie, source })
            }
            Ok(_) | Err(_) => {
                self.paths.remove(&netns_cookie);
                Ok(false)
            }
        }
    }

    /// Looks for all namespaces anew and forgets those that are gone. Leaves the calling thread in any of them.
    /// Those in `wanted` are remembered in any case.
    pub(super) fn refresh(&mut self, wanted: &HashSet<u64>) -> Survey {
        self.paths.clear();
        let nsfs = fs::metadata("/proc/thread-self/ns/net").map_or(0, |metadata| metadata.dev());
        let mut search = Search { nsfs, ..Search::default() };
        for directory in DIRECTORIES.iter().map(Path::new) {
            search.directory(directory);
        }
        search.mounts();
        search.processes();
        let mut survey = search.survey;
        for path in search.paths {
            match netns::enter(&path) {
                Ok(cookie) => {
                    survey.namespaces += 1;
                    if self.paths.len() < KNOWN || wanted.contains(&cookie) {
                        self.paths.insert(cookie, path);
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => survey.refused += 1,
                // It ended meanwhile.
                Err(_) => {}
            }
        }
        survey
    }
}

/// One path to each namespace.
#[derive(Default)]
struct Search {
    /// Device of the kernel's file system of namespaces.
    nsfs: u64,
    inodes: HashSet<u64>,
    paths: Vec<PathBuf>,
    survey: Survey,
}

impl Search {
    fn directory(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Ok(metadata) = fs::metadata(&path) {
                self.add(path, &metadata);
            }
        }
    }

    /// Wherever else a namespace is bound to a file that this process sees.
    fn mounts(&mut self) {
        for path in mounts::bound_namespaces(&mounts::table()) {
            if let Ok(metadata) = fs::metadata(&path) {
                self.add(path, &metadata);
            }
        }
    }

    fn processes(&mut self) {
        for (_, folder) in processes::all(Path::new("/proc")) {
            let path = folder.join("ns/net");
            match fs::metadata(&path) {
                Ok(metadata) => {
                    self.survey.processes += 1;
                    self.add(path, &metadata);
                }
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => self.survey.unreadable += 1,
                // It ended meanwhile.
                Err(_) => {}
            }
        }
    }

    /// Adds a namespace unless it is there already. Files to which nothing is bound are left out.
    fn add(&mut self, path: PathBuf, metadata: &fs::Metadata) {
        if metadata.dev() == self.nsfs && self.inodes.insert(metadata.ino()) {
            self.paths.push(path);
        }
    }
}
