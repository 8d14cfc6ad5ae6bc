//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::check::CheckArgs;
use super::cleanup::CleanupArgs;
use super::explain::ExplainArgs;
use super::flows::FlowsArgs;
use super::list::ListArgs;
use super::monitor::MonitorArgs;
use super::output::FormatArgs;
use super::run::RunArgs;
use super::services::ServicesArgs;
use super::status::StatusArgs;
use super::sysdump::SysdumpArgs;
use super::takeover::TakeoverArgs;
use super::top::TopArgs;
use super::trace::TraceArgs;
use super::{completion, man};

/// eBPF load balancer for Kubernetes Services.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve Services on this node until stopped; what is in the kernel stays and goes on working.
    Run(Box<RunArgs>),
    /// Whether the node is healthy, and if not, why; the exit code says it, too: 0 healthy, 3 not, 1 cannot be told.
    Status(StatusArgs),
    /// Services with their frontends, and what was counted for them.
    Services(Box<ServicesArgs>),
    /// Backends below their Services, and what was counted for them.
    Backends(ListArgs),
    /// Connections in the flow tables.
    Flows(Box<FlowsArgs>),
    /// What Services and backends do now: connections, bytes, errors by second.
    Top(Box<TopArgs>),
    /// Why a Service or an address is served as it is: the rule that decides, and each endpoint with its reason.
    Explain(Box<ExplainArgs>),
    /// What becomes of a packet that nobody has sent: each look-up, each backend, and the way behind Sluice, there and back.
    Trace(Box<TraceArgs>),
    /// Whether the node is fit for Sluice and lets Services work; or whether manifests say what was meant.
    Check(Box<CheckArgs>),
    /// One archive of all that can be seen of this node, without secrets: to be sent along with a report.
    Sysdump(Box<SysdumpArgs>),
    /// How far the node is on its way from kube-proxy to Sluice, and the next step; removes what kube-proxy has left.
    Takeover(TakeoverArgs),
    /// New flows, refusals, drops and ended flows, as they happen.
    Monitor(Box<MonitorArgs>),
    /// Detach everything and remove all pins: nothing is translated any more. Refused while the agent runs.
    Cleanup(CleanupArgs),
    /// Say field by field what becomes of a configuration file.
    CheckConfig(CheckConfigArgs),
    /// Completion of this command line, for a shell to read.
    Completion(completion::CompletionArgs),
    /// Write the manual pages, one for each command, into a folder.
    Man(man::ManArgs),
    /// Version of this program and of the maps that it understands.
    Version(FormatArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// The file: `KubeProxyConfiguration`, `SluiceConfiguration`, or both.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}
