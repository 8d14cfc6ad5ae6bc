//! `cargo xtask lint`: formatting, clippy for the host and for the BPF target, and the documentation.

use anyhow::Result;

use crate::build;
use crate::command::{cargo, output, run as run_command};
use crate::setup;

/// Runs every check; the first that fails ends it.
pub fn run() -> Result<()> {
    setup::for_lint()?;
    heading("format");
    run_command(cargo("fmt").args(["--all", "--check"]))?;

    heading("kernel programs");
    let tools = setup::for_build()?;
    if output(tools.toolchain.cargo("clippy").arg("--version")).is_ok() {
        run_command(build::bpf_cargo(&tools, "clippy").args(["--", "-D", "warnings"]))?;
    } else {
        println!("no clippy in {}: compiling with warnings denied instead", tools.toolchain);
        run_command(build::bpf_cargo(&tools, "rustc").args(["--", "-D", "warnings"]))?;
    }
    // The agent embeds it, so the host's checks need it.
    build::bpf_object()?;

    heading("host");
    // Apart from the rest: next to the agent it would get the agent's features.
    run_command(cargo("clippy").args(["--package", "lb-common", "--", "-D", "warnings"]))?;
    run_command(cargo("clippy").args(["--workspace", "--exclude", "lb-ebpf", "--all-targets"]).args([
        "--features",
        "lb-common/testkit",
        "--",
        "-D",
        "warnings",
    ]))?;

    heading("documentation");
    run_command(
        cargo("doc")
            .args(["--workspace", "--exclude", "lb-ebpf", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn heading(name: &str) {
    println!("== {name}");
}
