//! The bench of the data path: nanoseconds per packet by `BPF_PROG_TEST_RUN`, next to a floor (see `docs/bench.md`).

#![expect(clippy::print_stdout, reason = "a table on the standard output is what this program is for")]

mod cases;
mod harness;
mod packets;
mod report;
mod subject;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

use crate::cases::{Case, Kind};
use crate::harness::Harness;
use crate::report::Report;
use crate::subject::Subject;
use crate::world::{FLOWS, World};

/// Measures the data path's programs.
#[derive(Parser)]
struct Args {
    /// Fewer rounds: enough to see that all is well, too few to judge by.
    #[arg(long)]
    quick: bool,
    /// Number of rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the programs of this object instead of those just built.
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// The bench's own kernel programs.
    #[arg(long, value_name = "FILE", default_value_os_t = built("sluice-bench.o"))]
    bench_object: PathBuf,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn built(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join("target/bpf").join(name)
}

const FEW: World = World { services: 10 };
const MANY: World = World { services: 10_000 };

fn main() -> Result<()> {
    let args = Args::parse();
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let object = read(args.object.as_deref().unwrap_or(&built("sluice-bpf.o")))?;
    stay_on_this_cpu();
    let mut harness = Harness::load(&read(&args.bench_object)?, cases::MAX_CASES, FEW)?;
    let mut subjects = [Subject::load(&object, FEW)?, Subject::load(&object, MANY)?, Subject::load(&object, FEW)?];
    let cases = cases::all(&mut harness, &mut subjects)?;
    let rounds = args.rounds.unwrap_or(if args.quick { 5 } else { 41 });
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..rounds {
        for step in 0..cases.len() {
            // Another case begins each round: none always follows the same one's heat.
            let at = if round % 2 == 0 { step } else { cases.len() - 1 - step };
            times[at].push(measure(&mut harness, &mut subjects, &cases[at])?);
        }
    }
    let report = Report::new(&cases, &times, FLOWS);
    println!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Runs of a case in a round: the shortest counts, as whatever comes in between only adds.
const RUNS: usize = 3;

fn measure(harness: &mut Harness, subjects: &mut [Subject; 3], case: &Case) -> Result<f64> {
    let (warm, packets) = match case.kind {
        Kind::Opening | Kind::OpeningFew => (256, 1_024),
        Kind::Refused => (1_024, 4_096),
        Kind::Inserted => (1_024, 8_192),
        _ => (2_048, 10_240),
    };
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        least = least.min(harness.measure(case.hook, &case.fd, &case.traffic, warm, packets)?);
    }
    if let Some(subject) = case.forget.and_then(|at| subjects.get_mut(at)) {
        subject.forget_half_open(case.v6)?;
    }
    Ok(least)
}

/// A move to another CPU in the middle of a round would cost that round its caches. Not fatal where it is refused.
fn stay_on_this_cpu() {
    use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
    use nix::unistd::Pid;
    let mut set = CpuSet::new();
    let pinned = sched_getcpu().and_then(|cpu| set.set(cpu)).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        println!("not tied to one CPU: {error}");
    }
}
