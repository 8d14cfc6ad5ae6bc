//! `cargo xtask build`: the kernel programs first, then the agent that carries them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::build::ByteString;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;
use object::{Object, ObjectSymbol};

use crate::command::{cargo, cargo_home, run as run_command, workspace_root};
use crate::setup::{self, BpfToolchain, BpfTools};

/// How the agent is built. The kernel programs are always optimised: the verifier sees what users run.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Args {
    /// Build the agent with optimisations.
    #[arg(long)]
    pub release: bool,
}

/// Builds the BPF object and the agent.
pub fn run(args: &Args) -> Result<()> {
    let object = bpf_object()?;
    println!("kernel programs  {}", object.display());
    println!("agent            {}", agent(args.release)?.display());
    Ok(())
}

/// Where the agent's build script takes the BPF object from.
pub fn bpf_object_path() -> PathBuf {
    workspace_root().join("target/bpf/sluice-bpf.o")
}

/// Where the bench takes its own kernel programs from.
pub fn bench_object_path() -> PathBuf {
    workspace_root().join("target/bpf/sluice-bench.o")
}

/// Builds the BPF objects, checks them and puts them where the agent's build script and the bench find them.
pub fn bpf_object() -> Result<PathBuf> {
    let tools = setup::for_build()?;
    let mut build = bpf_cargo(&tools, "build");
    run_command(&mut build).with_context(|| match tools.toolchain {
        BpfToolchain::Nightly(_) => {
            "building the kernel programs (a linker that cannot read the bitcode is older than \
             the nightly's LLVM: remove bpf-linker and run `cargo xtask setup`)"
        }
        BpfToolchain::Debian => "building the kernel programs with Debian's rustc",
    })?;
    install("sluice-bench", &bench_object_path())?;
    install("sluice-bpf", &bpf_object_path())
}

/// Checks a linked object and puts it in its place.
fn install(name: &str, path: &Path) -> Result<PathBuf> {
    let linked = bpf_target_dir().join(setup::BPF_TARGET).join("release").join(name);
    let bytes = fs::read(&linked).with_context(|| format!("reading {}", linked.display()))?;
    refuse_panics(&bytes, &linked)?;
    let bytes = without_debug_info(&bytes).with_context(|| format!("stripping {}", linked.display()))?;
    // An object that did not change keeps its date, so that the agent is not built anew.
    if fs::read(path).ok().as_ref() != Some(&bytes) {
        let fresh = path.with_extension("o.new");
        fs::create_dir_all(path.parent().unwrap_or(workspace_root()))?;
        fs::write(&fresh, &bytes).with_context(|| format!("writing {}", fresh.display()))?;
        fs::rename(&fresh, path).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(path.to_path_buf())
}

/// An object without DWARF, which is nine tenths of it and which the agent would read each time it starts. BTF stays, and so
/// do the symbols; what was linked stays whole for debuggers.
fn without_debug_info(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut object = Builder::read(bytes).context("reading it")?;
    for section in &mut object.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    object.delete_orphans();
    // LLVM has one table for the names of symbols and sections, the writer wants one for each.
    let names = object.sections.add();
    names.name = ByteString::from(".shstrtab".as_bytes());
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped).context("writing it")?;
    Ok(stripped)
}

/// Builds the agent around the BPF object that is there and returns the binary's path.
pub fn agent(release: bool) -> Result<PathBuf> {
    let mut build = cargo("build");
    build.args(["--package", "lb-userspace", "--bin", "sluice"]);
    if release {
        build.arg("--release");
    }
    run_command(&mut build)?;
    Ok(agent_path(release))
}

/// Builds the agent with places at which tests make it die, hang or fail (`sluice::faults`), and returns its path.
pub fn faulty_agent() -> Result<PathBuf> {
    let mut build = cargo("build");
    build.args(["--package", "lb-userspace", "--bin", "sluice-faulty", "--features", "lb-userspace/fault-points"]);
    run_command(&mut build)?;
    Ok(agent_path(false).with_file_name("sluice-faulty"))
}

/// Where `agent` leaves the binary.
pub fn agent_path(release: bool) -> PathBuf {
    let profile = if release { "release" } else { "debug" };
    target_dir().join(profile).join("sluice")
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// The BPF crate has a target folder of its own: neither its flags nor its features touch the host's builds.
fn bpf_target_dir() -> PathBuf {
    target_dir().join("bpf-build")
}

/// The folders whose names would be in what is built, with what is there in their place: builds of one commit are equal
/// wherever they are made. Where several hold a path, the last one counts.
pub fn folders_without_place(target: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut folders = vec![(workspace_root().to_path_buf(), "/sluice"), (target.to_path_buf(), "/sluice/target")];
    folders.extend(cargo_home().map(|home| (home, "/cargo")));
    folders
}

/// Cargo for the BPF crate alone (another package in the same call would add its features to `lb-common`).
pub fn bpf_cargo(tools: &BpfTools, verb: &str) -> Command {
    let mut flags = vec![
        format!("-Clinker={}", tools.linker.display()),
        "-Clink-arg=--btf".into(),
        // Else LLVM makes a call with a loop over bytes of each small array that is cleared, on the packet path too.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        "-Cdebuginfo=2".into(),
        "-Cpanic=abort".into(),
    ];
    let mut folders = folders_without_place(&bpf_target_dir());
    folders.extend(tools.toolchain.sysroot().map(|dir| (dir, "/rustc")));
    flags.extend(folders.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
    let mut command = tools.toolchain.cargo(verb);
    command.args(["--package", "lb-ebpf", "--release", "--target-dir"]).arg(bpf_target_dir());
    // Replaces whatever flags the caller's environment has for host builds.
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command
}

/// Fails if the object can reach a panic: in the kernel that is an endless loop at best, a refused program at worst.
fn refuse_panics(bytes: &[u8], path: &Path) -> Result<()> {
    let object = object::File::parse(bytes).with_context(|| format!("{} is no object file", path.display()))?;
    let panics: Vec<_> =
        object.symbols().filter_map(|symbol| symbol.name().ok()).filter(|name| is_panic(name)).collect();
    if panics.is_empty() {
        return Ok(());
    }
    bail!("{} has a way to panic (an index, a division, an unwrap): {}", path.display(), panics.join(", "));
}

/// Both of Rust's manglings write `core::panicking` with the second name's length in front.
fn is_panic(symbol: &str) -> bool {
    symbol.contains("9panicking") || symbol.contains("core::panicking") || symbol.contains("rust_begin_unwind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_symbols_are_known_in_both_manglings() {
        assert!(is_panic("_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE"));
        assert!(is_panic("_RNvNtCs1a2b3c_4core9panicking5panic"));
        assert!(!is_panic("uplink_xdp"));
        assert!(!is_panic("memcpy"));
    }
}
