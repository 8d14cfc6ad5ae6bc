//! `cargo xtask setup`: finds what building and testing need, and installs what is missing where it can.
//!
//! The other verbs call the part they need, so it is quick when nothing is missing.

mod bpf;
mod packages;
mod prometheus;

use std::fs;

use anyhow::Result;

use crate::command::{cargo, find, output, run as run_command};
pub use bpf::{BpfToolchain, BpfTools, TARGET as BPF_TARGET};
pub use prometheus::Prometheus;

/// Programs that the namespace tests and the demo call, and the Debian package of each.
const NODE_PROGRAMS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("iptables", "iptables"), ("ethtool", "ethtool")];

/// Programs that boot other kernels, and the Debian package of each.
const VM_PROGRAMS: &[(&str, &str)] =
    &[("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("depmod", "kmod")];

/// Finds or installs everything, and prints what was found.
pub fn run() -> Result<()> {
    let tools = for_build()?;
    println!("bpf core    {}", tools.toolchain);
    println!("bpf-linker  {}", tools.linker.display());
    for_nodes()?;
    for_lint()?;
    println!("node tests  {}", NODE_PROGRAMS.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", "));
    println!("api server  {}", crate::apiserver::Assets::outlook());
    if let Some(hint) = bpffs_hint() {
        println!("bpffs       {hint}");
    }
    Ok(())
}

/// What a build needs: a `core` for the BPF target and the linker.
pub fn for_build() -> Result<BpfTools> {
    BpfTools::find_or_install()
}

/// What whole nodes in namespaces need.
pub fn for_nodes() -> Result<()> {
    install_missing(NODE_PROGRAMS)
}

/// What tests on other kernels need; not part of [`run`], since most never run them.
pub fn for_vms() -> Result<()> {
    for_nodes()?;
    install_missing(VM_PROGRAMS)
}

fn install_missing(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> =
        programs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    packages::install(&missing)
}

/// What formatting and lints need of the host's toolchain.
pub fn for_lint() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let verb = if component == "rustfmt" { "fmt" } else { "clippy" };
        if output(cargo(verb).arg("--version")).is_err() {
            run_command(crate::command::clean("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// What to do when there is no bpffs where the agent's default pin path lies.
fn bpffs_hint() -> Option<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/sys/fs/bpf") && fields.next() == Some("bpf")
    });
    (!mounted).then_some("not mounted (tests and demo mount their own); for the agent: mount -t bpf bpf /sys/fs/bpf")
}
