//! How a list is printed: the form, sorting, watching.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::form::Form;
use super::grid::{Grid, Width};
use super::select::SelectArgs;
use super::sort::sort;
use super::terminal::width;
use crate::cli::output;
use crate::cli::pin_args::PinArgs;

/// `-w` looks again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Arguments of a sub-command that lists something.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
    #[command(flatten)]
    pub(in crate::cli) form: FormArgs,
    #[command(flatten)]
    pub(in crate::cli) pins: PinArgs,
}

/// How a list is printed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(in crate::cli) struct FormArgs {
    /// Form: `table`, `wide`, `name`, `json`, `yaml` or `jsonpath=TEMPLATE`.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub(in crate::cli) output: Form,
    /// Print what changes, until stopped.
    #[arg(short, long)]
    pub(in crate::cli) watch: bool,
    /// Sort by this column, or by this path of the JSON; the largest first with `-` before it.
    #[arg(long, value_name = "COLUMN|PATH", allow_hyphen_values = true)]
    pub(in crate::cli) sort_by: Option<String>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub(in crate::cli) no_headers: bool,
}

/// A row of a list.
pub(in crate::cli) trait Listed: Serialize {
    /// What `-o name` says, such as `service/shop/web:http`; tells the row from all others.
    fn id(&self) -> String;
    /// Which path of the JSON each column that can be sorted by shows.
    const SORT: &'static [(&'static str, &'static str)];
}

/// What a look at the maps has found.
pub(in crate::cli) struct Found<R> {
    /// The rows that were asked for.
    pub(in crate::cli) rows: Vec<R>,
    /// What was asked for and is not there.
    pub(in crate::cli) missing: Option<String>,
}

impl FormArgs {
    /// Prints a list; with `-w` again and again.
    pub(in crate::cli) fn print<R: Listed>(
        &self,
        look: impl Fn() -> anyhow::Result<Found<R>>,
        grid: impl Fn(&[R]) -> Grid,
    ) -> anyhow::Result<()> {
        let found = self.look(&look)?;
        let mut seen = self.watch.then(|| self.versions(&found.rows, &grid)).transpose()?;
        if !found.rows.is_empty() || found.missing.is_none() {
            output::write(&self.text(&found.rows, &grid, width(&self.output), !self.no_headers)?)?;
        }
        if let Some(missing) = found.missing {
            bail!(missing);
        }
        while let Some(before) = &mut seen {
            thread::sleep(AGAIN);
            let Found { rows, .. } = self.look(&look)?;
            let now = self.versions(&rows, &grid)?;
            let changed: Vec<R> = rows.into_iter().filter(|row| before.get(&row.id()) != now.get(&row.id())).collect();
            *before = now;
            if !changed.is_empty() && !output::write(&self.text(&changed, &grid, width(&self.output), false)?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look<R: Listed>(&self, look: &impl Fn() -> anyhow::Result<Found<R>>) -> anyhow::Result<Found<R>> {
        let mut found = look()?;
        if let Some(by) = &self.sort_by {
            sort(&mut found.rows, by, R::SORT)?;
        }
        Ok(found)
    }

    /// What each row looks like now.
    fn versions<R: Listed>(&self, rows: &[R], grid: &impl Fn(&[R]) -> Grid) -> anyhow::Result<HashMap<String, String>> {
        let text = |row: &R| match &self.output {
            // Ages change by themselves.
            Form::Table | Form::Wide => Ok(grid(std::slice::from_ref(row)).without_ages()),
            _ => serde_json::to_string(row).context("cannot write JSON"),
        };
        rows.iter().map(|row| Ok((row.id(), text(row)?))).collect()
    }

    pub(in crate::cli) fn text<R: Listed>(
        &self,
        rows: &[R],
        grid: &impl Fn(&[R]) -> Grid,
        width: Width,
        heads: bool,
    ) -> anyhow::Result<String> {
        Ok(match &self.output {
            Form::Table | Form::Wide => grid(rows).render(width, heads).join("\n"),
            Form::Name => rows.iter().map(Listed::id).collect::<Vec<_>>().join("\n"),
            machine => machine.serialise(&rows)?,
        })
    }
}
