//! `cargo xtask lint`: formatting, clippy for the host and for the BPF target, the documentation, and the structure.

use anyhow::{Result, bail};

use crate::build;
use crate::command::{cargo, run as run_command};
use crate::setup;
use crate::tidy;

/// One check; its findings are on the output already.
type Check = fn() -> Result<()>;

/// Runs every check, also after one that failed, and names those that did.
pub fn run() -> Result<()> {
    setup::for_lint()?;
    // The agent embeds it, so the host's checks need it.
    build::bpf_object()?;
    let checks: [(&str, Check); 5] = [
        ("format", format),
        ("kernel programs", kernel_programs),
        ("host", host),
        ("documentation", documentation),
        ("structure", structure),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("== {name}");
        if let Err(error) = check() {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: {}", failed.join(", "));
    }
    Ok(())
}

fn format() -> Result<()> {
    run_command(cargo("fmt").args(["--all", "--check"]))
}

/// The BPF crate alone: what it takes from `lb-common` is the host's check.
fn kernel_programs() -> Result<()> {
    let tools = setup::for_build()?;
    if tools.toolchain.has_clippy() {
        return run_command(build::bpf_cargo(&tools, "clippy").args(["--no-deps", "--", "-D", "warnings"]));
    }
    println!("no clippy in {}: compiling with warnings denied instead", tools.toolchain);
    run_command(build::bpf_cargo(&tools, "rustc").args(["--", "-D", "warnings"]))
}

fn host() -> Result<()> {
    // Apart from the rest: next to the agent it would get the agent's features.
    let common = run_command(cargo("clippy").args(["--package", "lb-common", "--", "-D", "warnings"]));
    let mut all = cargo("clippy");
    all.args(["--workspace", "--exclude", "lb-ebpf", "--all-targets"]);
    all.args(["--features", "lb-common/testkit", "--keep-going", "--", "-D", "warnings"]);
    run_command(&mut all).and(common)
}

fn documentation() -> Result<()> {
    run_command(
        cargo("doc")
            .args(["--workspace", "--exclude", "lb-ebpf", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn structure() -> Result<()> {
    tidy::run(&tidy::Args::default())
}
