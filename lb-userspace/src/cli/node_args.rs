//! Settings of the node itself that kube-proxy makes, for those who relied on them.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::conntrack::Conntrack;
use crate::config::values::duration;

/// How in-cluster clients are told from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DetectLocal {
    /// By `--cluster-cidr`; without any, all clients count as in-cluster.
    #[default]
    ClusterCidr,
    /// By the Pod ranges of this node's Node object.
    NodeCidr,
}

impl DetectLocal {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClusterCidr => "ClusterCIDR",
            Self::NodeCidr => "NodeCIDR",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct NodeArgs {
    /// How in-cluster clients are told from others.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub(super) detect_local: DetectLocal,
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

    /// Makes the settings. What cannot be set is logged and left.
    pub(super) fn apply(&self) {
        self.conntrack().apply();
        if let Some(adjustment) = self.oom_score_adj
            && let Err(error) = std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
        {
            tracing::warn!(%error, adjustment, "oom_score_adj cannot be set");
        }
    }
}
