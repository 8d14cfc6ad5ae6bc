//! The command line. Every sub-command but `run` reads the pinned maps (`explain` also manifests), so it works while the
//! agent is down.
//!
//! `-o json` and `-o yaml` print the row types of the sub-commands' modules; their field names are stable.

mod at_once;
mod auditing;
mod backend_row;
mod backends;
#[cfg(test)]
mod chart_tests;
mod check;
mod cleanup;
mod command_line;
mod completion;
mod explain;
mod flows;
mod groups;
mod host_port_args;
mod labelled;
mod list;
mod listen;
mod man;
mod monitor;
mod node_args;
mod output;
mod packet_args;
mod panics;
mod pcapng;
mod pin_args;
mod plugin;
mod problems;
mod recounting;
mod run;
mod service_manager;
mod services;
mod settings;
mod size_args;
mod socket_args;
mod spread_args;
mod status;
mod succession;
mod sweeping;
mod sysdump;
mod takeover;
mod top;
mod trace;

use std::process::ExitCode;

use clap::CommandFactory;
use command_line::{Cli, Command};
pub use output::Format;

use crate::config::findings::Finding;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if plugin::is_called_by(&args) {
        return ended(plugin::main(args));
    }
    let (cli, findings) = match settings::parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let done = match cli.command {
        Command::Status(args) => status::print(&args),
        Command::Takeover(args) => takeover::print(&args),
        other => run_command(other, &findings).map(|()| ExitCode::SUCCESS),
    };
    ended(done)
}

fn ended(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        output::complain(&error);
        ExitCode::FAILURE
    })
}

fn run_command(command: Command, findings: &[Finding]) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run::run(&args, findings),
        Command::Check(args) => check::print(&args),
        Command::CheckConfig(args) => settings::check(&args.file, args.format.output),
        Command::Status(args) => status::print(&args).map(drop),
        Command::Takeover(args) => takeover::print(&args).map(drop),
        Command::Services(args) => services::print(&args),
        Command::Backends(args) => backends::print(&args),
        Command::Explain(args) => explain::print(&args),
        Command::Monitor(args) => monitor::print(&args),
        Command::Trace(args) => trace::print(&args),
        Command::Flows(args) => flows::print(&args),
        Command::Top(args) => top::print(&args),
        Command::Sysdump(args) => sysdump::print(&args),
        Command::Cleanup(args) => cleanup::cleanup(&args),
        Command::Completion(args) => completion::print(&args, Cli::command()),
        Command::Man(args) => man::write(&args, Cli::command()),
        Command::Version(args) => output::version(args.output),
    }
}
