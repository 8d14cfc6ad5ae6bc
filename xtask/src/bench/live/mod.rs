//! `cargo xtask bench live`: real sockets on nodes in network namespaces, all rows interleaved round by round.

mod arm;
mod asked;
mod client;
pub(super) mod flood;
mod frames;
mod in_place;
mod island;
mod kind;
mod measure;
mod nft;
mod results;
mod row;
mod server;
mod setup;

pub(super) use self::results::{Figure, Results as LiveResults};

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::arm::Built;
use self::client::Workload;
use self::row::Row;
use super::cpu::{self, Cpu};
use super::session;
use crate::build;
use crate::command::is_root;
use crate::lab::{self, RunDir};

/// What to measure live.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Only these rows, separated by commas, and those that they are compared with: `--rows tax,clusterip`.
    #[arg(long, value_delimiter = ',', value_name = "ROW", value_parser = row_id)]
    rows: Vec<&'static str>,
    /// Only these workloads, separated by commas.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// Number of rounds: every row is measured once in each.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds that a row is measured for in a round.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// A few short rounds and few Services: enough to see that all is well, too few to judge by.
    #[arg(long)]
    quick: bool,
    /// Services of ten endpoints each in the maps.
    #[arg(long, value_name = "N")]
    services: Option<u32>,
    /// Measure this agent instead of the one that is built here.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Measure this agent, too, in the same rounds: rows that end with `-against`. It is how a change is judged.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Leave out the kernel's own statistics of the programs.
    #[arg(long)]
    no_in_place: bool,
    /// The processor that clients and servers share; without it the last one.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 21 })
    }

    fn slice(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 0.1 } else { 0.3 }).clamp(0.01, 3600.0))
    }

    fn services(&self) -> u32 {
        self.services.unwrap_or(if self.quick { 100 } else { 10_000 })
    }

    fn workloads(&self) -> Vec<Workload> {
        if self.workloads.is_empty() { Workload::ALL.to_vec() } else { self.workloads.clone() }
    }

    /// The rows that were asked for and that are available, with those that they are compared with.
    fn rows(&self, built: &Built) -> Result<Vec<Row>> {
        let workloads = self.workloads();
        let fits = |row: &Row| workloads.iter().any(|workload| row.fits(*workload));
        let wanted = |row: &Row| self.rows.contains(&row.id) || (self.rows.is_empty() && fits(row));
        let chosen: Vec<Row> = row::ALL.into_iter().filter(|row| wanted(row) && built.can(row.kind)).collect();
        for id in &self.rows {
            ensure!(chosen.iter().any(|row| row.id == *id), "this agent has no row {id}");
        }
        let is_base = |row: &Row| chosen.iter().any(|other| other.base == row.id);
        let listed = |row: &Row| chosen.iter().any(|other| other.id == row.id);
        Ok(row::ALL.into_iter().filter(|row| listed(row) || is_base(row)).collect())
    }
}

fn row_id(text: &str) -> Result<&'static str, String> {
    let ids = row::ALL.map(|row| row.id);
    ids.into_iter().find(|id| *id == text).ok_or_else(|| format!("the rows are {}", ids.join(", ")))
}

/// Builds nodes and agents, measures, prints and writes what came of it.
pub(super) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the bench makes network namespaces and attaches programs: run it as root");
    }
    let built = build_or_find(args)?;
    let rows = args.rows(&built)?;
    session::raise();
    let cpu = Cpu::choose(args.cpu)?;
    // Before any thread or agent starts: they inherit it.
    cpu.avoid()?;
    cpu::raise_open_files()?;
    lab::clean_up_on_signals()?;
    let dir = RunDir::create()?;
    setup::manifests(&dir, args.services())?;
    let nodes = setup::nodes(&dir, &rows, &built, cpu)?;
    cpu::settle();
    let mut results = results::Results::new(args.rounds(), args.slice(), args.services(), cpu);
    let mut failures = Vec::new();
    for workload in args.workloads() {
        let rows: Vec<Row> = rows.iter().filter(|row| row.fits(workload)).copied().collect();
        if rows.is_empty() {
            continue;
        }
        eprintln!("{}: {} rows, {} rounds", workload.name(), rows.len(), args.rounds());
        // What fails costs no other workload its figures.
        match measure::workload(&nodes, &rows, workload, cpu, args.rounds(), args.slice()) {
            Ok(samples) => results.add(workload, &rows, &samples),
            Err(failure) => failures.push(failure),
        }
    }
    if !args.no_in_place {
        match in_place::measure(&nodes, &rows, &args.workloads(), cpu, args.slice()) {
            Ok(figures) => results.in_place = figures,
            Err(failure) => failures.push(failure.context("the programs in place")),
        }
    }
    println!("{}", results.table());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for failure in &failures {
        eprintln!("failed: {failure:#}");
    }
    ensure!(failures.is_empty(), "{} parts of the bench failed", failures.len());
    Ok(())
}

/// The kernel programs of the bench are always those of this checkout; the agent is built only where none is given.
fn build_or_find(args: &Args) -> Result<Built> {
    build::bpf_object()?;
    let sluice = match &args.sluice {
        Some(path) => path.clone(),
        None => build::agent(true)?,
    };
    let absolute = |path: PathBuf| std::path::absolute(&path).with_context(|| format!("no path {}", path.display()));
    let against = args.against.clone().map(absolute).transpose()?;
    for agent in [Some(&sluice), against.as_ref()].into_iter().flatten() {
        ensure!(agent.is_file(), "no agent at {}", agent.display());
    }
    Ok(Built { sluice: absolute(sluice)?, against, programs: build::bench_object_path(), services: args.services() })
}
