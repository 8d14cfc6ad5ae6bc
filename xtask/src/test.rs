//! `cargo xtask test`: runs the tests layer by layer and counts, per layer, what really ran.

mod again;
pub(crate) mod count;
mod layer;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::apiserver::Assets;
use crate::build;
use crate::command::is_root;
use crate::setup;
use again::Failures;
use count::Counts;
use layer::Layer;

/// Which layers run.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Leave a layer out; the summary says so. May be given several times.
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    pub without: Vec<Layer>,
    /// Run a layer that is left out otherwise. May be given several times.
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    pub with: Vec<Layer>,
    /// Run this layer alone. May be given several times.
    #[arg(long, value_name = "LAYER", value_delimiter = ',', conflicts_with = "without")]
    pub only: Vec<Layer>,
    /// Do not run a failed test a second time. Without this, the few tests of the node and cluster layers that fail are
    /// run once more, alone; the summary names those that pass then as unsteady.
    #[arg(long)]
    pub once: bool,
}

impl Args {
    /// What leaves this layer out, if anything does: a flag, or that it runs by request only.
    fn left_out_by(&self, layer: Layer) -> Option<&'static str> {
        if self.without.contains(&layer) {
            Some("--without")
        } else if !self.only.is_empty() && !self.only.contains(&layer) {
            Some("--only")
        } else if layer.by_request() && !self.only.contains(&layer) && !self.with.contains(&layer) {
            Some("default: it takes long and fetches kernels (run it by --with or --only)")
        } else {
            None
        }
    }
}

/// How a layer ended.
enum Outcome {
    Ran { counts: Counts, trouble: Option<String>, unsteady: Vec<String>, took: Duration },
    LeftOut(&'static str),
    Absent(&'static str),
}

impl Outcome {
    fn failed(&self) -> u64 {
        match self {
            // A layer that did not build, was killed or ran nothing failed, whatever its tests would have said.
            Self::Ran { counts, trouble, .. } => counts.failed.max(u64::from(trouble.is_some())),
            Self::LeftOut(_) | Self::Absent(_) => 0,
        }
    }
}

/// Runs the layers and prints the summary, which ends with the plain line `N passed, N failed`.
pub fn run(args: &Args) -> Result<()> {
    setup::for_nodes()?;
    build::bpf_object()?;
    build::agent(false)?;

    let outcomes: Vec<_> = Layer::ALL
        .iter()
        .map(|&layer| {
            let outcome = match args.left_out_by(layer) {
                Some(flag) => Outcome::LeftOut(flag),
                None => run_layer(layer, args.once),
            };
            (layer, outcome)
        })
        .collect();
    summarise(&outcomes)
}

fn run_layer(layer: Layer, once: bool) -> Outcome {
    let commands = layer.commands();
    if commands.is_empty() {
        return Outcome::Absent(layer.target());
    }
    println!("== {layer}: {}", layer.shows());
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut trouble = prepare(layer).err().map(|error| format!("{error:#}"));
    let mut unsteady = Vec::new();
    if trouble.is_none() {
        let mut failures = Failures::default();
        for mut command in commands {
            let each = |line: &str| failures.add_line(line);
            if let Err(error) = count::stream_to(&mut command, &mut counts, layer.time_limit(), each) {
                trouble.get_or_insert(format!("{error:#}"));
            }
        }
        if counts.ran() == 0 {
            trouble.get_or_insert_with(|| "ran no test".into());
        }
        if counts.failed > 0 && !once {
            unsteady = again::run(layer, &failures, &mut counts);
            // The layer ended badly because of these tests alone.
            trouble = trouble.filter(|_| counts.failed > 0);
        }
    }
    Outcome::Ran { counts, trouble, unsteady, took: start.elapsed() }
}

/// What a layer needs before its tests start; without it none of them could say more than this error does.
fn prepare(layer: Layer) -> Result<()> {
    if layer.needs_root() && !is_root() {
        bail!("needs root: run as root, or leave it out with `--without {layer}`");
    }
    match layer {
        // What guests need, their own verb prepares.
        Layer::Unit | Layer::Kernel | Layer::Vm => {}
        // Memory and times are judged of the agent as users run it. Its build takes minutes: not out of the tests' time.
        Layer::Node => {
            build::faulty_agent()?;
            build::agent(true)?;
        }
        Layer::Cluster => {
            Assets::find_or_build()?;
            // Where it cannot be had, the one test that compares says so.
            drop(Assets::kube_proxy());
        }
    }
    Ok(())
}

fn summarise(outcomes: &[(Layer, Outcome)]) -> Result<()> {
    let mut total = Counts::default();
    println!("\n{:<8} {:>6} {:>6} {:>6} {:>7} {:>8}", "layer", "ran", "passed", "failed", "ignored", "took");
    for (layer, outcome) in outcomes {
        match outcome {
            Outcome::Ran { counts, trouble, unsteady, took } => {
                println!(
                    "{:<8} {:>6} {:>6} {:>6} {:>7} {:>6.1} s{}",
                    layer.to_string(),
                    counts.ran(),
                    counts.passed,
                    counts.failed,
                    counts.ignored,
                    took.as_secs_f64(),
                    trouble.as_ref().map(|why| format!("  {why}")).unwrap_or_default()
                );
                for name in unsteady {
                    println!("         unsteady: {name} failed, and passed when run again alone");
                }
                total.passed += counts.passed;
                total.failed += outcome.failed();
                total.ignored += counts.ignored;
            }
            Outcome::LeftOut(flag) => println!("{:<8} left out by {flag}", layer.to_string()),
            Outcome::Absent(target) => println!("{:<8} no such tests here: {target} does not exist", layer.to_string()),
        }
    }
    let ran_nothing = total.passed + total.failed == 0;
    println!("\n{total}");
    if ran_nothing {
        bail!("no test ran");
    }
    if total.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(passed: u64, failed: u64, trouble: Option<&str>) -> Outcome {
        let counts = Counts { passed, failed, ignored: 0 };
        Outcome::Ran { counts, trouble: trouble.map(Into::into), unsteady: Vec::new(), took: Duration::ZERO }
    }

    #[test]
    fn layer_that_ran_nothing_is_a_failure() {
        assert_eq!(ran(0, 0, Some("ran no test")).failed(), 1);
        assert!(summarise(&[(Layer::Unit, ran(3, 0, None)), (Layer::Node, ran(0, 0, Some("ran no test")))]).is_err());
    }

    #[test]
    fn failed_tests_are_not_counted_twice_for_their_exit_code() {
        assert_eq!(ran(5, 2, Some("exit status: 101")).failed(), 2);
    }

    #[test]
    fn run_without_any_layer_is_a_failure() {
        assert!(summarise(&[(Layer::Unit, Outcome::LeftOut("--without"))]).is_err());
        assert!(summarise(&[(Layer::Unit, ran(1, 0, None)), (Layer::Cluster, Outcome::LeftOut("--without"))]).is_ok());
    }

    #[test]
    fn other_kernels_are_tried_by_request_alone() {
        let left_out = |args: &Args| args.left_out_by(Layer::Vm).is_some();
        assert!(left_out(&Args::default()));
        assert!(!left_out(&Args { with: vec![Layer::Vm], ..Args::default() }));
        assert!(!left_out(&Args { only: vec![Layer::Vm], ..Args::default() }));
        assert!(left_out(&Args { with: vec![Layer::Vm], without: vec![Layer::Vm], ..Args::default() }));
        assert_eq!(Args { with: vec![Layer::Vm], ..Args::default() }.left_out_by(Layer::Unit), None);
    }

    #[test]
    fn only_leaves_every_other_layer_out() {
        let args = Args { only: vec![Layer::Kernel], ..Args::default() };
        assert_eq!(args.left_out_by(Layer::Kernel), None);
        assert_eq!(args.left_out_by(Layer::Unit), Some("--only"));
    }
}
