//! Prints rows as a table, JSON or YAML.
#![expect(clippy::print_stderr, reason = "this is where the command line speaks")]

use std::io::Write as _;

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use lb_common::abi::ABI_VERSION;
use serde::Serialize;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct FormatArgs {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

/// Prints `value` for machines, or `table` for people.
pub(super) fn print<T: Serialize>(value: &T, format: Format, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value).context("cannot write JSON")?,
        Format::Yaml => serde_saphyr::to_string(value).context("cannot write YAML")?,
    };
    write(&text).map(drop)
}

/// Prints a text, ended by one newline. False: its reader has seen enough, such as `head`.
pub(super) fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        done => done.context("cannot write the output").map(|()| true),
    }
}

/// An empty table with these columns.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().copied());
    table
}

/// Prints an error and its causes.
pub(super) fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

#[derive(Serialize)]
struct Version {
    /// Version of this program.
    version: &'static str,
    /// Version of the maps' layouts.
    abi: u32,
}

pub(super) fn version(format: Format) -> anyhow::Result<()> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), abi: ABI_VERSION };
    print(&version, format, |v| format!("sluice {} (map ABI {})", v.version, v.abi))
}
