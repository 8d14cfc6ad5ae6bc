//! `sluice --help`: the commands by what they are for.

use std::fmt::Write;

use clap::Subcommand as _;

use super::command_line::Command;

/// Without clap's own list of commands, which has no groups.
pub(super) const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n{after-help}\nOptions:\n{options}\n";

/// The groups, and their commands in order.
const GROUPS: &[(&str, &[&str])] = &[
    ("Serve", &["run", "check-config"]),
    ("Look", &["status", "services", "backends", "flows", "explain"]),
    ("Maintain", &["cleanup", "completion", "man", "version"]),
];

/// All groups with their commands and what each is for.
pub(super) fn all() -> String {
    let commands = Command::augment_subcommands(clap::Command::new("sluice"));
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _never_fails = writeln!(text, "\n{group}:");
        for name in *names {
            let about = commands.find_subcommand(name).and_then(|command| command.get_about());
            let about = about.map_or_else(String::new, ToString::to_string);
            let short = about.split([':', ';']).next().unwrap_or_default();
            let _never_fails = writeln!(text, "  {name:<13} {short}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::command_line::Cli;
    use crate::cli::list::golden;

    #[test]
    fn each_command_is_in_one_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.sort_unstable();
        let cli = Cli::command();
        let mut all: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        all.sort_unstable();
        assert_eq!(grouped, all);
        golden::compare("help", &Cli::command().render_help().to_string());
    }
}
