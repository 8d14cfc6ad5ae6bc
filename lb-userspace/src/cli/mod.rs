//! The command line. Every sub-command but `run` reads the pinned maps only, so it works while the agent is down.
//!
//! `-o json` and `-o yaml` print the row types of the sub-commands' modules; their field names are stable.

mod backends;
mod cleanup;
mod flows;
mod listen;
mod node_args;
mod output;
mod run;
mod services;
mod settings;
mod size_args;
mod socket_args;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use output::Format;

/// Default pin path.
const PIN_PATH: &str = "/sys/fs/bpf/sluice";

/// eBPF load balancer for Kubernetes Services.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Services on this node until stopped; what is in the kernel stays and goes on working.
    Run(Box<run::RunArgs>),
    /// State of the agent and of the data path.
    Status(ViewArgs),
    /// Frontends and the backends behind them.
    Services(ViewArgs),
    /// Backends with their ids, generations and state.
    Backends(ViewArgs),
    /// Connections in the flow tables.
    Flows(flows::FlowsArgs),
    /// Detach everything and remove all pins: nothing is translated any more. Refused while the agent runs.
    Cleanup(PinArgs),
    /// Say field by field what becomes of a configuration file.
    CheckConfig(CheckArgs),
    /// Version of this program and of the maps that it understands.
    Version(output::FormatArgs),
}

/// Where the maps are.
#[derive(Clone, Debug, Args)]
struct PinArgs {
    /// Directory of the pinned maps and links.
    #[arg(long, value_name = "DIR", default_value = PIN_PATH, env = "SLUICE_PIN_PATH")]
    pin_path: PathBuf,
}

#[derive(Clone, Debug, Args)]
struct ViewArgs {
    #[command(flatten)]
    pins: PinArgs,
    #[command(flatten)]
    format: output::FormatArgs,
}

#[derive(Clone, Debug, Args)]
struct CheckArgs {
    /// The file: `KubeProxyConfiguration`, `SluiceConfiguration`, or both.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    format: output::FormatArgs,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let (cli, findings) = match settings::parse(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args, &findings),
        Command::CheckConfig(args) => settings::check(&args.file, args.format.output),
        Command::Status(args) => status::print(&args.pins.pin_path, args.format.output),
        Command::Services(args) => services::print(&args.pins.pin_path, args.format.output),
        Command::Backends(args) => backends::print(&args.pins.pin_path, args.format.output),
        Command::Flows(args) => flows::print(&args),
        Command::Cleanup(args) => cleanup::cleanup(&args.pin_path),
        Command::Version(args) => output::version(args.output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
