//! What the kernel offers, what is used because of it, and what it cannot work without.

use std::borrow::Cow;

use aya::maps::MapType;
use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use serde::{Deserialize, Serialize};

use super::LoadError;
use crate::linux::netns::own_netns_cookie;
use crate::linux::{kernel_version, mounts};

/// One feature of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Name.
    pub name: Cow<'static, str>,
    /// Whether it is there.
    pub found: bool,
    /// What is used because of it.
    pub used: String,
}

/// Result of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kernel has tcx links.
    pub tcx: bool,
    /// For the report.
    pub features: Vec<Feature>,
}

/// Oldest kernel: `bpf_redirect_neigh` and `BPF_PROG_TEST_RUN` as they are needed.
const OLDEST: (u32, u32) = (5, 10);

/// Probes the running kernel.
pub fn probe() -> Result<Probe, LoadError> {
    let release = kernel_version::release();
    if kernel_version::parse(&release) < OLDEST {
        return Err(LoadError::KernelTooOld { found: release, needed: "5.10", what: "bpf_redirect_neigh" });
    }
    let needed = [
        (is_program_supported(ProgramType::SchedClassifier).unwrap_or(false), "TC programs", "CONFIG_NET_CLS_BPF=y"),
        (is_map_supported(MapType::LruHash).unwrap_or(false), "LRU hash maps", "CONFIG_BPF=y"),
        (is_map_supported(MapType::LpmTrie).unwrap_or(false), "longest prefix match maps", "CONFIG_BPF=y"),
    ];
    for (found, what, config) in needed {
        if !found {
            return Err(LoadError::Unsupported { what, config });
        }
    }
    let tcx = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
    let xdp = is_program_supported(ProgramType::Xdp).unwrap_or(false);
    let redirect_neigh =
        is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_neigh).unwrap_or(false);
    let cgroup2 = mounts::cgroup2_mount(&mounts::table());
    let frags = kernel_version::has_xdp_frags();
    let (refusal, cookie) = (kernel_version::can_refuse_sockets(), own_netns_cookie().is_ok());
    let features = vec![
        feature("kernel", true, release),
        feature("tcx", tcx, if tcx { "pinned tcx links, updated in place" } else { "clsact filters (kernel < 6.6)" }),
        feature("xdp", xdp, if xdp { "native XDP where a device offers it" } else { "TC on uplinks" }),
        feature(
            "xdp_frags",
            frags,
            if frags { "frames in fragments too" } else { "no frames in fragments (needs 5.18)" },
        ),
        feature(
            "socket_refusal",
            refusal,
            if refusal {
                "calls to Services without endpoints fail at once"
            } else {
                "such calls go on: Pods' packets are refused, the node's own are dropped (needs 5.18)"
            },
        ),
        feature(
            "netns_cookie",
            cookie,
            if cookie {
                "network namespaces are distinguished"
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
    Ok(Probe { tcx, features })
}

fn feature(name: &'static str, found: bool, used: impl Into<String>) -> Feature {
    Feature { name: name.into(), found, used: used.into() }
}
