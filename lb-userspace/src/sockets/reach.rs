//! Whom the socket hooks reach: a hook in a cgroup in which only the agent is serves nobody.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The initial cgroup namespace's file (`PROC_CGROUP_INIT_INO`, `linux/proc_ns.h`).
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;
/// Directories that are looked into: somebody is found early, or the tree is small.
const DIRECTORIES: usize = 4096;

/// Why nobody is served by hooks at this cgroup; `None`: somebody is.
pub(super) fn nobody_served(cgroup: &Path) -> Option<String> {
    if has_others(cgroup, &own_family(Path::new("/proc"), std::process::id())) {
        return None;
    }
    let namespace = fs::metadata("/proc/self/ns/cgroup").map(|file| file.ino());
    let why = if namespace.is_ok_and(|inode| inode != INITIAL_CGROUP_NAMESPACE) {
        "the agent has a separate cgroup namespace and sees its own container's cgroup as the root: mount the node's \
         /sys/fs/cgroup into the container and name that with --cgroup, or give the container the node's cgroup namespace"
    } else {
        "name the node's cgroup with --cgroup, or none to take the root"
    };
    Some(format!(
        "sockets of the node and of its Pods: no process but the agent is in cgroup {}: {why}",
        cgroup.display()
    ))
}

/// The agent and those that started it within its container, such as an init or a shell.
fn own_family(proc: &Path, own: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| {
        let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let family = std::iter::successors(Some(own), |pid| parent(*pid).filter(|parent| *parent != 0));
    family.take(64).collect()
}

/// Whether a process outside of the agent's family is in the cgroup, or in one below it. Processes of other process
/// namespaces are listed as 0, and count.
fn has_others(cgroup: &Path, family: &BTreeSet<u32>) -> bool {
    let mut waiting = vec![cgroup.to_owned()];
    let mut looked = 0;
    while let Some(dir) = waiting.pop() {
        looked += 1;
        // A threaded cgroup lists threads alone.
        let listed = fs::read_to_string(dir.join("cgroup.procs"));
        let listed = listed.or_else(|_| fs::read_to_string(dir.join("cgroup.threads"))).unwrap_or_default();
        let mut others = listed.lines().filter_map(|line| line.trim().parse::<u32>().ok());
        if looked > DIRECTORIES || others.any(|id| !family.contains(&id) && !is_own_thread(id)) {
            return true;
        }
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        waiting
            .extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    false
}

fn is_own_thread(id: u32) -> bool {
    id != 0 && Path::new("/proc/self/task").join(id.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_with_nobody_but_the_agent_and_its_parents_serves_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let list = |cgroup: &str, file: &str, pids: &str| {
            fs::create_dir_all(dir.path().join(cgroup)).unwrap();
            fs::write(dir.path().join(cgroup).join(file), pids).unwrap();
        };
        let family = BTreeSet::from([1, 4_000_007]);
        let served = || has_others(dir.path(), &family);
        list("", "cgroup.procs", "4000007\n1\n");
        assert!(!served());
        list("below", "cgroup.procs", "4000007\n");
        list("below/empty", "cgroup.procs", "");
        assert!(!served());
        list("below/threaded", "cgroup.threads", "4000009\n");
        assert!(served(), "a thread of another process");
        list("below/threaded", "cgroup.threads", "");
        list("other", "cgroup.procs", "0\n");
        assert!(served(), "a process of another process namespace");
    }

    #[test]
    fn those_that_started_the_agent_belong_to_it() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent) in [(20, 7), (7, 1), (1, 0)] {
            fs::create_dir_all(dir.path().join(pid.to_string())).unwrap();
            fs::write(dir.path().join(pid.to_string()).join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
        }
        assert_eq!(own_family(dir.path(), 20), BTreeSet::from([1, 7, 20]));
    }
}
