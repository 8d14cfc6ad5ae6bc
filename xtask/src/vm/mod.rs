//! `cargo xtask vm`: the tests that meet the kernel, on other kernels, each in a virtual machine.
//!
//! QEMU emulates the machine in software, so this takes minutes and needs no KVM. A guest is a kernel of the
//! distribution and an initramfs: busybox, the network tools, the agent and the test programs that cargo built for the
//! host, each with the libraries that it is linked to.

mod archive;
mod guest;
mod image;
mod kernels;
mod store;
mod suite;

use anyhow::{Result, bail};

use crate::build;
use crate::setup;
use kernels::KERNELS;

/// What runs where.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Run on this kernel alone, such as 6.1. May be given several times.
    #[arg(long = "kernel", value_name = "VERSION", value_delimiter = ',')]
    pub kernels: Vec<String>,
    /// Run only tests whose names contain one of these.
    #[arg(value_name = "TEST")]
    pub tests: Vec<String>,
}

/// Boots each kernel in turn and runs its tests; an error names the kernels on which something failed.
pub fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.kernels.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no kernel {unknown} here: there are {}", known.join(", "));
    }
    setup::for_vms()?;
    build::bpf_object()?;
    let programs = suite::build(&build::agent(true)?)?;

    let mut failed = Vec::new();
    for kernel in
        KERNELS.iter().filter(|kernel| args.kernels.is_empty() || args.kernels.iter().any(|n| n == kernel.name))
    {
        println!("== Linux {} ({})", kernel.name, kernel.release);
        let stored = match store::find_or_fetch(kernel) {
            Ok(stored) => stored,
            Err(error) => {
                println!("Linux {} is left out: {error:#}", kernel.name);
                // In the words of a test program, so that whoever counts tests counts this one as not run.
                println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
                continue;
            }
        };
        if let Err(error) = guest::run(kernel, &stored, &programs, &args.tests) {
            println!("Linux {}: {error:#}", kernel.name);
            failed.push(kernel.name);
        }
    }
    if !failed.is_empty() {
        bail!("tests failed on Linux {}", failed.join(", "));
    }
    Ok(())
}
