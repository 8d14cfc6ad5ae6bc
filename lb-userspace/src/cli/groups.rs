//! `sluice --help`: the commands by what they are for.

use std::fmt::Write;

use clap::Command;

/// Without clap's own list of commands, which has no groups.
const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}{after-help}\nOptions:\n{options}\n";

/// The groups, and their commands in order.
const GROUPS: &[(&str, &[&str])] = &[
    ("Serve", &["run", "check-config"]),
    ("Look", &["status", "services", "backends", "flows", "top", "explain", "trace", "monitor", "check", "sysdump"]),
    ("Maintain", &["takeover", "cleanup", "completion", "man", "version"]),
];

/// The grammar whose help has its commands in groups.
pub(super) fn grouped(grammar: Command) -> Command {
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _never_fails = writeln!(text, "\n{group}:");
        for name in *names {
            let about = grammar.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(String::new, ToString::to_string);
            let short = about.split([':', ';']).next().unwrap_or_default();
            let _never_fails = writeln!(text, "  {name:<13} {short}");
        }
    }
    grammar.help_template(TEMPLATE).after_help(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::command_line::Cli;
    use crate::cli::list::golden;

    #[test]
    fn each_command_is_in_one_group() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        listed.sort_unstable();
        let cli = Cli::command();
        let mut all: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        all.sort_unstable();
        assert_eq!(listed, all);
        golden::compare("help", &grouped(Cli::command()).render_help().to_string());
    }
}
