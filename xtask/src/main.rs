//! `cargo xtask VERB`: reads the command line and hands over to the verb's module.

#![expect(clippy::print_stderr, reason = "a command line tool says on its standard error what went wrong")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sluice's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install what building and testing need.
    Setup,
    /// Build the kernel programs, then the agent that carries them.
    Build(xtask::build::Args),
    /// Build the container image, with its symbols and bill of materials apart.
    Image(xtask::image::Args),
    /// Make everything that a release publishes: image, packages, chart, manifests, notes, checksums.
    Release(xtask::release::Args),
    /// Formatting, clippy for the host and for the BPF target, the documentation, and `tidy`.
    Lint,
    /// Structure of the sources and documents: lengths, circles of imports, order of modules, words, flags, counters.
    Tidy(xtask::tidy::Args),
    /// Serve the examples on a node in namespaces, send real traffic and show what answered.
    Demo(xtask::demo::Args),
    /// Measure what a packet costs in the kernel programs.
    Bench(xtask::bench::Args),
    /// Run an agent for minutes or hours, with changes, restarts, scrapes and devices; report what it uses over time.
    Soak(xtask::soak::Args),
    /// Run the tests, layer by layer.
    Test(xtask::test::Args),
    /// Run the tests that meet the kernel on other kernels, in virtual machines.
    Vm(xtask::vm::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => xtask::setup::run(),
        Verb::Build(args) => xtask::build::run(&args),
        Verb::Image(args) => xtask::image::run(&args),
        Verb::Release(args) => xtask::release::run(&args),
        Verb::Lint => xtask::lint::run(),
        Verb::Tidy(args) => xtask::tidy::run(&args),
        Verb::Demo(args) => xtask::demo::run(&args),
        Verb::Bench(args) => xtask::bench::run(&args),
        Verb::Soak(args) => xtask::soak::run(&args),
        Verb::Test(args) => xtask::test::run(&args),
        Verb::Vm(args) => xtask::vm::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with the causes, also where the environment asks for backtraces.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
