//! Settings that both proxies have, in the words of each.

use serde_json::{Value, json};

use super::sides::Who;

/// A way to run both.
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    /// Fields of kube-proxy's configuration.
    pub(crate) theirs: fn() -> Value,
    /// Arguments of Sluice.
    pub(crate) ours: &'static [&'static str],
    /// Every connection is source-NATed.
    pub(crate) masquerade_all: bool,
    /// Clients that kube-proxy takes for outside ones. Sluice does so packet by packet; a socket of the node's or a Pod's
    /// is an inside one.
    pub(crate) outsiders: &'static [Who],
}

/// The first is what a cluster usually has.
pub(crate) const ALL: [Setup; 6] = [
    Setup { name: "default", theirs: || json!({}), ours: &[], masquerade_all: false, outsiders: &[] },
    Setup {
        name: "masquerade-all",
        theirs: || json!({"nftables": {"masqueradeAll": true, "minSyncPeriod": "10ms", "syncPeriod": "30s"}}),
        ours: &["--masquerade-all"],
        masquerade_all: true,
        outsiders: &[],
    },
    Setup {
        name: "bridge",
        theirs: || json!({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}}),
        ours: &["--detect-local", "bridge-interface", "--detect-local-bridge", "cni0"],
        masquerade_all: false,
        outsiders: &[Who::RoutedSocket],
    },
    Setup {
        name: "prefix",
        theirs: || json!({"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "cali"}}),
        ours: &["--detect-local", "interface-name-prefix", "--detect-local-prefix", "cali"],
        masquerade_all: false,
        outsiders: &[Who::BridgeSocket],
    },
    Setup {
        name: "node-port-addresses",
        theirs: || json!({"nodePortAddresses": ["10.244.1.0/24", "10.90.0.0/24", "fd44:1::/64"]}),
        ours: &[
            "--node-port-addresses",
            "10.244.1.0/24",
            "--node-port-addresses",
            "10.90.0.0/24",
            "--node-port-addresses",
            "fd44:1::/64",
        ],
        masquerade_all: false,
        outsiders: &[],
    },
    Setup {
        name: "every-node-port-address",
        theirs: || json!({"nodePortAddresses": ["0.0.0.0/0", "::/0"]}),
        ours: &["--node-port-addresses", "0.0.0.0/0", "--node-port-addresses", "::/0"],
        masquerade_all: false,
        outsiders: &[],
    },
];
