//! `sluice man DIR`: the manual pages, one for each command, made from the grammar of the command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

#[derive(Clone, Debug, Args)]
pub(super) struct ManArgs {
    /// The folder, such as `/usr/share/man/man1`.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn write(args: &ManArgs, grammar: Command) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    let written = clap_mangen::generate_to(grammar.disable_help_subcommand(true), &args.folder);
    written.with_context(|| format!("cannot write manual pages into {}", args.folder.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::command_line::Cli;

    #[test]
    fn each_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        write(&ManArgs { folder: folder.path().join("man1") }, Cli::command()).unwrap();
        for name in Cli::command().get_subcommands().map(Command::get_name) {
            let page = std::fs::read_to_string(folder.path().join(format!("man1/sluice-{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains("DESCRIPTION"), "{name}: {page}");
        }
        assert!(folder.path().join("man1/sluice.1").exists());
    }
}
