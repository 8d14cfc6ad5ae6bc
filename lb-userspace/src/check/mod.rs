//! Whether a node is fit for Sluice, and whether what lies around Sluice lets Services work.
//!
//! [`gather`] collects the [`facts`] and changes nothing. Each check is a pure function of them.

pub mod behind;
pub mod board;
pub mod facts;
mod filters;
pub mod finding;
pub mod firewall;
pub mod gather;
pub mod manifests;
pub mod names;
mod rivals;
mod serving;
mod settings;
mod system;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::facts::Facts;
use self::finding::{Finding, Level};

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Stable name, as in metrics.
    pub name: &'static str,
    /// What it looks at, for the documents.
    pub about: &'static str,
    look: fn(&Facts) -> Vec<Finding>,
}

/// All checks, in the order in which they are shown.
pub const CHECKS: &[Check] = &[
    Check {
        name: "agent",
        about: "the agent runs, has its first full state, and could attach everything",
        look: serving::agent,
    },
    Check {
        name: "source",
        about: "the API server or the folder can be read; the server is not asked by a `ClusterIP`",
        look: serving::source,
    },
    Check { name: "refusals", about: "parts of objects that are not served", look: serving::refusals },
    Check { name: "maps", about: "maps that are full, or nearly", look: serving::maps },
    Check {
        name: "node-name",
        about: "`--node-name` against the Node object and the endpoints' `nodeName`",
        look: serving::node_name,
    },
    Check {
        name: "backends",
        about: "routes, devices and neighbours on the way to each backend",
        look: behind::backends,
    },
    Check { name: "uplinks", about: "each device that clients come in by is an uplink", look: serving::uplinks },
    Check {
        name: "ports",
        about: "the agent's ports, and `NodePort`s, that another program has",
        look: serving::ports,
    },
    Check {
        name: "snat-ports",
        about: "`--snat-ports` against the kernel's own source ports and `NodePort`s",
        look: settings::snat_ports,
    },
    Check {
        name: "forwarding",
        about: "`ip_forward`, `forwarding` of IPv6 and of each device",
        look: settings::forwarding,
    },
    Check {
        name: "rp-filter",
        about: "strict filters of source addresses with several uplinks",
        look: settings::rp_filter,
    },
    Check {
        name: "route-localnet",
        about: "`route_localnet`, which kube-proxy leaves behind",
        look: settings::route_localnet,
    },
    Check { name: "forward-policy", about: "chains that drop what the node forwards", look: filters::forward_policy },
    Check {
        name: "firewall-rules",
        about: "rules that name a `NodePort` or a Service's address, and are never reached",
        look: filters::firewall_rules,
    },
    Check { name: "kube-proxy", about: "kube-proxy, or what it left behind", look: rivals::kube_proxy },
    Check {
        name: "programs",
        about: "programs of others at the same hooks, and other Sluices",
        look: rivals::programs,
    },
    Check { name: "kernel", about: "its version", look: system::kernel },
    Check { name: "bpffs", about: "the BPF file system below `--pin-path`", look: system::bpffs },
    Check { name: "cgroup", about: "cgroup v2, whole", look: system::cgroup },
    Check {
        name: "capabilities",
        about: "those that the agent needs, of the process that checks",
        look: system::capabilities,
    },
    Check { name: "clock", about: "it is set, and kept right", look: system::clock },
];

/// Everything that the checks find.
pub fn all(facts: &Facts) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| (check.look)(facts).into_iter().map(|finding| finding.of(check.name))).collect()
}

/// The worst of each check.
pub fn levels(findings: &[Finding]) -> BTreeMap<String, Level> {
    let mut levels = BTreeMap::new();
    for finding in findings {
        let level = levels.entry(finding.check.to_string()).or_insert(Level::Ok);
        *level = finding.level.max(*level);
    }
    levels
}

/// The worst of some findings.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
