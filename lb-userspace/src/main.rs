//! The `sluice` program: agent and command line in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::main()
}
