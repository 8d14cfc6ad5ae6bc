//! `sluice top`: what Services and backends do now, by second; on a terminal, or with `--batch` as text.

#[cfg(test)]
mod picture;
mod rates;
mod screen;

use std::io::IsTerminal as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use self::rates::{By, Sample, between};
use self::screen::View;
use super::labelled;
use super::list::{SelectArgs, Width, form_width};
use super::output;
use super::pin_args::PinArgs;
use crate::config::values::duration;
use crate::maps::kernel::KernelTables;

#[derive(Clone, Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Backends rather than Services.
    #[arg(long)]
    backends: bool,
    /// By what rows are sorted, the most first.
    #[arg(long, value_name = "BY", value_enum, default_value_t = By::Errors)]
    sort_by: By,
    /// Time between two looks.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Print text, one look after the other, rather than fill the terminal; the default where there is no terminal.
    #[arg(long)]
    batch: bool,
    /// End after so many looks; without it: when stopped.
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Print at most so many rows.
    #[arg(long, value_name = "N", default_value_t = 40)]
    rows: usize,
    #[command(flatten)]
    pins: PinArgs,
}

fn look(pin_path: &Path) -> anyhow::Result<Sample> {
    let tables = KernelTables::open(pin_path)?;
    let existing = tables.read_owners()?;
    Ok(Sample::new(Instant::now(), &existing, &tables.traffic(&existing)?, &tables.causes()?))
}

pub(super) fn print(args: &TopArgs) -> anyhow::Result<()> {
    let args = &TopArgs { select: labelled::resolve(&args.select, &args.pins.pin_path)?, ..args.clone() };
    let interval = args.interval.max(Duration::from_millis(100));
    let view = View { backends: args.backends, by: args.sort_by, ..View::default() };
    let first = look(&args.pins.pin_path)?;
    if let Some(missing) = args.select.missing(&first.owners()) {
        bail!(missing);
    }
    if args.batch || !std::io::stdout().is_terminal() {
        return batch(args, interval, view, first);
    }
    screen::run(view, interval, args.iterations, first, || look(&args.pins.pin_path), |owner| args.select.wants(owner))
}

/// A table a look.
fn batch(args: &TopArgs, interval: Duration, view: View, mut before: Sample) -> anyhow::Result<()> {
    let width = match form_width(&super::list::Form::Table) {
        Width::Unlimited => Width::Columns(120),
        known => known,
    };
    let mut left = args.iterations;
    while left != Some(0) {
        thread::sleep(interval);
        let after = look(&args.pins.pin_path)?;
        let (mut rows, millis) = between(&before, &after, view.backends, view.by);
        rows.retain(|row| args.select.wants(&row.owner));
        let lines = view.lines(&rows, millis, width, args.rows);
        if !output::write(&format!("{}\n", lines.join("\n")))? {
            return Ok(());
        }
        before = after;
        left = left.map(|left| left - 1);
        // A line between two looks.
        if left != Some(0) && !output::write("")? {
            return Ok(());
        }
    }
    Ok(())
}
