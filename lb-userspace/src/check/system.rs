//! Whether kernel, mounts, privileges and clock are what Sluice needs.

use super::facts::Facts;
use super::finding::{Finding, or_ok};
use crate::linux::kernel_version::parse;

/// Oldest kernel that runs the programs.
const OLDEST: (u32, u32) = (5, 10);
/// Kernels from which on something is better.
const BETTER: [((u32, u32), &str); 3] = [
    ((5, 14), "no --socket-opt-out and --socket-destroy (needs 5.14)"),
    ((5, 18), "refused sockets wait for their time-out, XDP takes no large frames (needs 5.18)"),
    ((6, 6), "programs are attached by clsact filters rather than tcx links (needs 6.6)"),
];
/// Capabilities by their numbers (`linux/capability.h`). One that is in a group is enough.
const NEEDED: [(&str, &[u32]); 3] = [("BPF", &[39, 21]), ("NET_ADMIN", &[12]), ("PERFMON", &[38, 21])];
/// 2024-01-01: a clock before that was never set.
const LATELY: u64 = 1_704_067_200;

pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    let (release, version) = (&facts.kernel, parse(&facts.kernel));
    if version < OLDEST {
        let found = format!("kernel {release} is older than 5.10");
        return vec![Finding::problem(found, "run a newer kernel: the agent does not start on this one")];
    }
    let lacks: Vec<&str> =
        BETTER.into_iter().filter(|(since, _)| version < *since).map(|(_, without)| without).collect();
    let but = if lacks.is_empty() { String::new() } else { format!(": {}", lacks.join("; ")) };
    vec![Finding::ok(format!("kernel {release}{but}"))]
}

pub(super) fn bpffs(facts: &Facts) -> Vec<Finding> {
    let path = facts.mounts.pin_path.display();
    let finding = if facts.mounts.on_bpffs {
        Finding::ok(format!("{path} is on a BPF file system"))
    } else if facts.mounts.in_the_way {
        Finding::problem(
            format!("{path} is not on a BPF file system and is not empty"),
            "give the agent another --pin-path, such as /sys/fs/bpf/sluice",
        )
    } else {
        Finding::warning(
            format!("{path} is not on a BPF file system: pins would not outlive the agent"),
            "mount -t bpf bpf /sys/fs/bpf; in a container mount the host's",
        )
    };
    vec![finding]
}

pub(super) fn cgroup(facts: &Facts) -> Vec<Finding> {
    let Some(path) = &facts.mounts.cgroup2 else {
        return vec![Finding::warning(
            "cgroup v2 is not mounted: sockets of the node's processes are not served",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
        )];
    };
    if facts.mounts.cgroup_namespace {
        return vec![Finding::warning(
            format!("{} is a part of the cgroups: hooks there see no process outside of it", path.display()),
            "give the agent's Pod the host's /sys/fs/cgroup and the host's cgroup namespace",
        )];
    }
    vec![Finding::ok(format!("cgroup v2 is at {}", path.display()))]
}

pub(super) fn capabilities(facts: &Facts) -> Vec<Finding> {
    let Some(have) = facts.capabilities else {
        return vec![Finding::skipped("/proc/self/status cannot be read", "mount /proc")];
    };
    let lacks = |bits: &[u32]| bits.iter().all(|bit| have & 1 << bit == 0);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|(_, bits)| lacks(bits)).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return vec![Finding::ok("this process may load and attach programs")];
    }
    vec![Finding::problem(
        format!("this process lacks the capabilities {}", missing.join(", ")),
        "run it as root, or give the container these capabilities",
    )]
}

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    let clock = facts.clock;
    let mut found = Vec::new();
    if clock.now < LATELY {
        found.push(Finding::problem(
            "the clock was never set: certificates of the API server are not valid yet",
            "set it, and let chronyd or systemd-timesyncd keep it right",
        ));
    } else if clock.synchronised == Some(false) {
        found.push(Finding::warning(
            "nobody keeps the clock right: certificates fail when it is off by too much",
            "systemctl enable --now chronyd, or systemd-timesyncd",
        ));
    }
    or_ok(found, || {
        if clock.synchronised.is_some() { "the clock is kept right" } else { "the clock is set" }.to_owned()
    })
}
