//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::completion;
use super::explain::ExplainArgs;
use super::flows::FlowsArgs;
use super::output::FormatArgs;
use super::pin_args::{PinArgs, ViewArgs};
use super::run::RunArgs;

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
    /// State of the agent and of the data path.
    Status(ViewArgs),
    /// Frontends and the backends behind them.
    Services(ViewArgs),
    /// Backends with their ids, generations and state.
    Backends(ViewArgs),
    /// Connections in the flow tables.
    Flows(FlowsArgs),
    /// Why a Service or an address is served as it is: the rule that decides, and each endpoint with its reason.
    Explain(Box<ExplainArgs>),
    /// Detach everything and remove all pins: nothing is translated any more. Refused while the agent runs.
    Cleanup(PinArgs),
    /// Say field by field what becomes of a configuration file.
    CheckConfig(CheckArgs),
    /// Completion of this command line, for a shell to read.
    Completion(completion::CompletionArgs),
    /// Version of this program and of the maps that it understands.
    Version(FormatArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    /// The file: `KubeProxyConfiguration`, `SluiceConfiguration`, or both.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}
