//! Settings of the node itself that kube-proxy makes, for those who relied on them.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::conntrack::Conntrack;
use crate::config::values::{device_name, duration};
use crate::devices::LocalDevices;

/// How in-cluster clients are recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DetectLocal {
    /// By their address, in `--cluster-cidr`. Without a prefix of a family: by a Pod's device, and no client is
    /// source-NATed for being outside.
    #[default]
    ClusterCidr,
    /// The same, with the Pod ranges of this node's Node object in place of `--cluster-cidr`.
    NodeCidr,
    /// By the device: what comes in by the bridge of `--detect-local-bridge` is local, and nothing else.
    BridgeInterface,
    /// By the device: what comes in by one whose name begins with `--detect-local-prefix` is local, and nothing else.
    InterfaceNamePrefix,
}

impl DetectLocal {
    const fn name(self) -> &'static str {
        match self {
            Self::ClusterCidr => "ClusterCIDR",
            Self::NodeCidr => "NodeCIDR",
            Self::BridgeInterface => "BridgeInterface",
            Self::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct NodeArgs {
    /// How in-cluster clients are recognised.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    detect_local: DetectLocal,
    /// With `--detect-local bridge-interface`: the bridge.
    #[arg(long, value_name = "NAME", value_parser = device_name, required_if_eq("detect_local", "bridge-interface"))]
    detect_local_bridge: Option<String>,
    /// With `--detect-local interface-name-prefix`: what the devices' names begin with.
    #[arg(long, value_name = "PREFIX", value_parser = device_name, required_if_eq("detect_local", "interface-name-prefix"))]
    detect_local_prefix: Option<String>,
    /// How readily the kernel ends the agent when memory runs out, -1000 to 1000.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(super) oom_score_adj: Option<i32>,
    /// Connection tracking: entries per processor. Sluice does not need it; other traffic of the node may.
    #[arg(long, value_name = "N")]
    conntrack_max_per_core: Option<u32>,
    /// Connection tracking: entries at least.
    #[arg(long, value_name = "N")]
    conntrack_min: Option<u32>,
    /// Connection tracking: idle established TCP.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    conntrack_tcp_timeout_established: Option<Duration>,
    /// Connection tracking: TCP in `CLOSE_WAIT`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    conntrack_tcp_timeout_close_wait: Option<Duration>,
    /// Connection tracking: leave out-of-window packets alone.
    #[arg(long)]
    conntrack_tcp_be_liberal: bool,
    /// Connection tracking: UDP without a reply.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    conntrack_udp_timeout: Option<Duration>,
    /// Connection tracking: UDP with a reply.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    conntrack_udp_timeout_stream: Option<Duration>,
}

impl NodeArgs {
    pub(super) fn conntrack(&self) -> Conntrack {
        Conntrack {
            max_per_core: self.conntrack_max_per_core,
            min: self.conntrack_min,
            tcp_established: self.conntrack_tcp_timeout_established,
            tcp_close_wait: self.conntrack_tcp_timeout_close_wait,
            tcp_be_liberal: self.conntrack_tcp_be_liberal,
            udp: self.conntrack_udp_timeout,
            udp_stream: self.conntrack_udp_timeout_stream,
        }
    }

    /// The mode's name in kube-proxy's configuration.
    pub(super) const fn detect_local_mode(&self) -> &'static str {
        self.detect_local.name()
    }

    /// Whether the Pod ranges of the Node object stand for the cluster's prefixes.
    pub(super) fn node_cidrs(&self) -> bool {
        self.detect_local == DetectLocal::NodeCidr
    }

    /// The devices that count as local, where clients are recognised by device.
    pub(super) fn local_devices(&self) -> Option<LocalDevices> {
        match self.detect_local {
            DetectLocal::ClusterCidr | DetectLocal::NodeCidr => None,
            DetectLocal::BridgeInterface => self.detect_local_bridge.clone().map(LocalDevices::Bridge),
            DetectLocal::InterfaceNamePrefix => self.detect_local_prefix.clone().map(LocalDevices::Prefix),
        }
    }

    /// Makes the settings, within a runtime. What cannot be set is logged and left.
    pub(super) fn apply(&self) {
        tokio::spawn(self.conntrack().apply());
        if let Some(adjustment) = self.oom_score_adj
            && let Err(error) = std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
        {
            tracing::warn!(%error, adjustment, "oom_score_adj cannot be set");
        }
    }
}
