//! `sluice completion SHELL`: the script by which a shell completes the command line.

use clap::{Args, Command};
use clap_complete::Shell;

use super::output;

#[derive(Clone, Debug, Args)]
pub(super) struct CompletionArgs {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// The script for a shell.
fn script(shell: Shell, mut grammar: Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut grammar, "sluice", &mut script);
    script
}

pub(super) fn print(args: &CompletionArgs, grammar: Command) -> anyhow::Result<()> {
    let script = script(args.shell, grammar);
    output::write(&String::from_utf8_lossy(&script)).map(drop)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::command_line::Cli;

    #[test]
    fn each_shell_gets_every_sub_command_and_flag() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(script(*shell, Cli::command())).unwrap();
            for word in Cli::command().get_subcommands().map(clap::Command::get_name).chain(["node-port-addresses"]) {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
