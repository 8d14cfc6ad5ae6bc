//! `cargo xtask bench run`: what a packet costs in the kernel programs by test run, next to a floor.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::spread::Spread;
use crate::build;
use crate::command::{cargo, is_root, run as run_command};

/// How the test-run bench is done.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(id = "test-run")]
pub(super) struct Args {
    /// A few rounds only: enough to see that all is well, too few to judge by.
    #[arg(long)]
    pub quick: bool,
    /// Number of rounds.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure the kernel programs of this object, such as one built from an earlier commit, instead of those here.
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,
}

/// What the test-run bench wrote, as far as the report shows it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Results {
    /// A line each.
    pub(super) rows: Vec<Row>,
}

/// A case's figures.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    /// `xdp` or `tc`.
    pub(super) hook: String,
    /// 4 or 6.
    pub(super) family: u8,
    /// Kind of packet.
    pub(super) case: String,
    /// The program.
    pub(super) program: String,
    /// Services in the maps; 0: it has nothing to do with them.
    pub(super) services: u32,
    /// Nanoseconds per packet.
    pub(super) ns: Spread,
    /// Multiples of the floor.
    pub(super) to_floor: Option<Spread>,
    /// Multiples of one insert into a full LRU table.
    pub(super) to_insert: Option<Spread>,
    /// Multiples of the same case with few Services.
    pub(super) to_few: Option<Spread>,
}

/// Builds what is measured and measures it.
pub(super) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the bench loads programs into the kernel: run it as root");
    }
    build::bpf_object()?;
    let mut bench = cargo("bench");
    // The host's side only starts the kernel's runs, so it need not be built with optimisations.
    bench.args(["--package", "lb-userspace", "--bench", "datapath", "--profile", "dev", "--"]);
    if args.quick {
        bench.arg("--quick");
    }
    if let Some(rounds) = args.rounds {
        bench.arg(format!("--rounds={rounds}"));
    }
    // The command starts in another folder than the caller's.
    for (flag, file) in [("--json", &args.json), ("--object", &args.object)] {
        if let Some(file) = file {
            bench.arg(flag).arg(std::path::absolute(file)?);
        }
    }
    run_command(&mut bench)
}
