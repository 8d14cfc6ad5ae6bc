//! The `sluice` program with places at which tests make it die, hang or fail ([`sluice::faults`]).

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::main()
}
