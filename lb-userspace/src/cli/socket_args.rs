//! Settings of the socket hooks, as flags of `sluice run`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::metrics::Metrics;
use crate::reconcile::SocketFacts;
use crate::sockets::opt_out::parse_pattern;
use crate::sockets::{Destroy, Outcome, Reaper, SocketMode, SocketReport, SocketSettings};

#[derive(Clone, Debug, Args)]
pub(super) struct SocketArgs {
    /// Which sockets are load-balanced at `connect()`: all, host-only (the node's network namespace), off.
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    socket_lb: SocketMode,
    /// Directory of the cgroup v2 whose processes are served; without it: the root of the mounted hierarchy.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Leave the sockets of these network namespaces alone: name below /run/netns or path, may be a pattern; may be
    /// given several times.
    #[arg(long, value_name = "GLOB", value_parser = parse_pattern)]
    pub(super) socket_opt_out: Vec<String>,
    /// Which sockets are seen to when their backend goes away: udp (connected ones are moved to another backend, or destroyed
    /// where that cannot be), all (and TCP connections are destroyed), off.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    socket_destroy: Destroy,
    /// Destroy connected UDP sockets whose backend goes away, rather than connect them to another one in their owners' stead.
    #[arg(long)]
    no_socket_move: bool,
    /// Processes of the node cannot bind to a `NodePort` that is served.
    #[arg(long)]
    protect_node_ports: bool,
}

impl SocketArgs {
    pub(super) fn settings(&self, tell_silence: bool) -> SocketSettings {
        SocketSettings {
            mode: self.socket_lb,
            cgroup: self.cgroup.clone(),
            protect_node_ports: self.protect_node_ports,
            tell_silence,
        }
    }

    pub(super) fn facts(&self, report: &SocketReport) -> SocketFacts {
        SocketFacts {
            attached: !report.hooks.is_empty(),
            host_only: report.mode == SocketMode::HostOnly,
            opt_out: !self.socket_opt_out.is_empty(),
            host_netns: report.host_netns,
        }
    }

    /// Destroys sockets of removed backends, on a separate thread. Without hooks there are none.
    pub(super) fn start_reaper(&self, facts: &SocketFacts, pin_path: &Path, metrics: &Metrics) -> Reaper {
        if !facts.attached {
            return Reaper::default();
        }
        let metrics = metrics.clone();
        let count = move |outcome: &Outcome| metrics.sockets_seen_to(outcome.moved, outcome.destroyed);
        let (which, moves) = (self.socket_destroy, !self.no_socket_move);
        let (reaper, why_not) = Reaper::start(pin_path.to_owned(), which, moves, !facts.host_only, count);
        if let Some(why) = why_not {
            tracing::warn!("{why}");
        }
        reaper
    }
}
