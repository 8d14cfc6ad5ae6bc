//! The flags of `sluice run`: README's table and `--help` name the same ones, with the same defaults.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::debts::Finding;
use super::files::TextFile;
use crate::command::{cargo, output};

/// The heading of the table.
const HEADING: &str = "### Flags of `sluice run`";

/// Compares the two. Builds the agent.
pub(super) fn check(documents: &[TextFile]) -> Result<Vec<Finding>> {
    let mut run = cargo("run");
    run.args(["--quiet", "--package", "lb-userspace", "--bin", "sluice", "--", "run", "--help"]);
    // Defaults that the environment would change are not those of the table.
    for name in ["SLUICE_PIN_PATH", "SLUICE_LOG", "SLUICE_API_SERVER", "NODE_NAME"] {
        run.env_remove(name);
    }
    let help = in_help(&output(&mut run)?);
    let readme = documents.iter().find(|file| file.path == "README.md").context("there is no README.md")?;
    Ok(compare(&help, &in_table(&readme.text)))
}

/// Flags with their default, as `--help` prints them.
fn in_help(text: &str) -> BTreeMap<String, Option<String>> {
    let mut flags = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim) {
        let names = line.split(", ").find(|part| part.starts_with("--"));
        if let Some(names) = names.filter(|_| line.starts_with('-')) {
            let name = names.split([' ', '=', '.', '<', '[']).next().unwrap_or(names).to_owned();
            current = (name != "--help").then(|| name.clone());
            if name != "--help" {
                flags.insert(name, None);
            }
        }
        let default = line.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        if let (Some(name), Some((default, _))) = (&current, default) {
            flags.insert(name.clone(), Some(default.to_owned()));
        }
    }
    flags
}

/// Flags with the cell of their default, as the table has them.
fn in_table(text: &str) -> BTreeMap<String, String> {
    let after = text.split_once(HEADING).map_or("", |(_, after)| after);
    let rows = after.lines().skip(1).take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with('|'));
    let mut flags = BTreeMap::new();
    for row in rows {
        let row = row.replace("\\|", "\u{0}");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (Some(names), Some(default)) = (cells.get(1), cells.get(2)) else { continue };
        for name in names.split('`').skip(1).step_by(2).filter(|name| name.starts_with("--")) {
            let name = name.split([' ', '[']).next().unwrap_or(name);
            flags.insert(name.to_owned(), (*default).to_owned());
        }
    }
    flags
}

fn compare(help: &BTreeMap<String, Option<String>>, table: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |text: String| findings.push(Finding::new("flags", "README.md", text));
    for (flag, default) in help {
        match (table.get(flag), default) {
            (None, _) => found(format!("README.md: the table of flags lacks {flag}")),
            (Some(cell), Some(default)) if !cell.contains(&format!("`{default}`")) => {
                found(format!("README.md: {flag} has the default `{default}`, the table says: {cell}"));
            }
            // A cell that is nothing but a value says that this is the default.
            (Some(cell), None) if is_value(cell) => {
                found(format!("README.md: {flag} has no default, the table says: {cell}"));
            }
            _ => {}
        }
    }
    for flag in table.keys().filter(|flag| !help.contains_key(*flag)) {
        found(format!("README.md: `sluice run` has no flag {flag}"));
    }
    findings
}

fn is_value(cell: &str) -> bool {
    let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inner.is_some_and(|inner| !inner.contains('`') && !inner.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Options:\n      --xdp <MODE>\n          Where.\n          \n          [default: auto]\n\n      \
        --uplink <IFACE>\n          Device, as --xdp\n\n      --tc <TC>\n          How\n\n  -h, --help\n          Print help\n";

    fn findings(rows: &str) -> Vec<String> {
        let table =
            format!("# x\n{HEADING}\n\n| flag | default | meaning |\n|---|---|---|\n{rows}\n## y\n| `--no` | | |\n");
        compare(&in_help(HELP), &in_table(&table)).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_table_that_says_what_help_says_passes() {
        assert!(findings("| `--xdp A\\|B` | `auto` | x |\n| `--uplink I`, `--tc H` | found | y |").is_empty());
    }

    #[test]
    fn a_missing_flag_a_flag_too_many_and_other_defaults_are_found() {
        assert_eq!(
            findings("| `--xdp MODE` | `off` | x |\n| `--uplink I` | `eth0` | y |\n| `--old` | | z |"),
            [
                "README.md: the table of flags lacks --tc",
                "README.md: --uplink has no default, the table says: `eth0`",
                "README.md: --xdp has the default `auto`, the table says: `off`",
                "README.md: `sluice run` has no flag --old",
            ]
        );
    }
}
