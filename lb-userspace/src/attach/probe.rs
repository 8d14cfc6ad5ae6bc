//! What the kernel offers, what is used because of it, and what it cannot work without.

use std::path::Path;

use aya::maps::MapType;
use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use super::AttachError;
use super::links::TcMethod;
use super::report::Feature;
use crate::linux::mounts;
use crate::linux::netns::own_netns_cookie;

/// Result of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How TC programs are attached.
    pub tc: TcMethod,
    /// For the report.
    pub features: Vec<Feature>,
}

/// The kernel that lets a socket hook say which error a call gets (`bpf_set_retval`).
const SET_RETVAL: (u32, u32) = (5, 18);

/// Whether socket hooks can refuse a connection as such.
pub(super) fn can_refuse_sockets() -> bool {
    version(&release()) >= SET_RETVAL
}

/// Whether the memory of maps counts against the limit of locked memory (until 5.11, when cgroups took over).
pub(super) fn counts_maps_as_locked_memory() -> bool {
    version(&release()) < (5, 11)
}

/// Oldest kernel: `bpf_redirect_neigh` and `BPF_PROG_TEST_RUN` as they are needed.
const OLDEST: (u32, u32) = (5, 10);

/// Probes the running kernel.
pub fn probe() -> Result<Probe, AttachError> {
    let release = release();
    if version(&release) < OLDEST {
        return Err(AttachError::KernelTooOld { found: release, needed: "5.10", what: "bpf_redirect_neigh" });
    }
    let needed = [
        (is_program_supported(ProgramType::SchedClassifier).unwrap_or(false), "TC programs", "CONFIG_NET_CLS_BPF=y"),
        (is_map_supported(MapType::LruHash).unwrap_or(false), "LRU hash maps", "CONFIG_BPF=y"),
        (is_map_supported(MapType::LpmTrie).unwrap_or(false), "longest prefix match maps", "CONFIG_BPF=y"),
    ];
    for (found, what, config) in needed {
        if !found {
            return Err(AttachError::Unsupported { what, config });
        }
    }
    let tcx = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
    let xdp = is_program_supported(ProgramType::Xdp).unwrap_or(false);
    let redirect_neigh =
        is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_neigh).unwrap_or(false);
    let cgroup2 = mounts::cgroup2_mount(&mounts::table());
    let (refusal, cookie) = (can_refuse_sockets(), own_netns_cookie().is_ok());
    let features = vec![
        feature("kernel", true, release),
        feature("tcx", tcx, if tcx { "pinned tcx links, updated in place" } else { "clsact filters (kernel < 6.6)" }),
        feature("xdp", xdp, if xdp { "native XDP where a device offers it" } else { "TC on uplinks" }),
        feature(
            "socket_refusal",
            refusal,
            if refusal {
                "calls to Services without endpoints fail at once"
            } else {
                "such calls go on: Pods' packets are refused, the node's own meet silence (needs 5.18)"
            },
        ),
        feature(
            "netns_cookie",
            cookie,
            if cookie {
                "network namespaces are told apart"
            } else {
                "the node counts as the machine's first one; no --socket-opt-out, no --socket-destroy (needs 5.14)"
            },
        ),
        feature(
            "redirect_neigh",
            redirect_neigh,
            if redirect_neigh { "neighbour redirect" } else { "source-NATed packets cannot leave, and are dropped" },
        ),
        feature(
            "cgroup2",
            cgroup2.is_some(),
            cgroup2.as_ref().map_or_else(|| "not mounted".to_owned(), |path| path.display().to_string()),
        ),
    ];
    Ok(Probe { tc: if tcx { TcMethod::Tcx } else { TcMethod::Clsact }, features })
}

/// Settings of the network stack that keep Services from working, as warnings.
pub fn sysctl_warnings() -> Vec<String> {
    let switches = [
        ("net/ipv4/ip_forward", "IPv4 packets to Pods are not forwarded"),
        ("net/ipv6/conf/all/forwarding", "IPv6 packets to Pods are not forwarded"),
    ];
    switches
        .iter()
        .filter(|(path, _)| {
            std::fs::read_to_string(Path::new("/proc/sys").join(path)).is_ok_and(|value| value.trim() == "0")
        })
        .map(|(path, effect)| format!("{} is 0: {effect}; set it to 1", path.replace('/', ".")))
        .collect()
}

fn feature(name: &'static str, found: bool, used: impl Into<String>) -> Feature {
    Feature { name: name.into(), found, used: used.into() }
}

fn release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "unknown".into(), |name| name.release().to_string_lossy().into_owned())
}

/// Major and minor version; an unreadable one counts as new, so that only a known lack refuses.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(version("5.4.0-100-generic") < OLDEST);
        assert!(version("5.10.0") >= OLDEST);
        assert!(version("6.18.3+") >= OLDEST);
        assert!(version("next") >= OLDEST);
    }
}
