//! `cargo xtask bench`: what Sluice costs, packet by packet and with real sockets. `docs/bench.md` tells how to read it.

mod cpu;
mod live;
mod load;
mod plot;
mod report;
mod services;
mod session;
mod spread;
mod test_run;

use anyhow::Result;

/// Without a sub-command: `run`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    run: test_run::Args,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Bench {
    /// What a packet costs in the kernel programs, by test run.
    Run(test_run::Args),
    /// Real sockets in network namespaces: with Sluice, without it, and through kube-proxy's nftables rules.
    Live(live::Args),
    /// How long the agent takes to load many Services, and for a single change.
    Load(load::Args),
    /// Open connections under floods of those that nobody answers, next to the kernel's own NAT.
    Flood(live::flood::Args),
    /// Run all of them and write figures, pictures and a page into `docs/benchmarks`.
    Report(report::Args),
}

/// Measures.
pub fn run(args: &Args) -> Result<()> {
    match &args.bench {
        None => test_run::run(&args.run),
        Some(Bench::Run(args)) => test_run::run(args),
        Some(Bench::Live(args)) => session::in_front(|| live::run(args)),
        Some(Bench::Flood(args)) => session::in_front(|| live::flood::run(args)),
        Some(Bench::Report(args)) => report::run(args),
        Some(Bench::Load(args)) => session::in_front(|| load::run(args)),
    }
}
