//! The agent as it is shipped: one static file, the same from every folder, with its symbols apart.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::arch::Arch;
use crate::build;
use crate::command::{cargo, run};

/// A shipped agent.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The program, without symbols.
    pub program: PathBuf,
    /// Its symbols, which a debugger finds by the program's build id.
    pub symbols: PathBuf,
}

/// Builds the kernel programs and the agent for a processor, into `dir`.
///
/// The GNU C library is linked in: its allocator is the one that the agent's memory is tuned for. It resolves names from
/// `/etc/resolv.conf` and `/etc/hosts` without further files.
pub(super) fn build(arch: Arch, dir: &Path) -> Result<Binary> {
    let linker = arch.linker()?;
    arch.add_std()?;
    build::bpf_object()?;
    let target = build::target_dir();
    run(&mut build_command(arch, &linker, &target)).with_context(|| format!("building the agent for {arch}"))?;
    let built = target.join(arch.triple()).join("release/sluice");
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let binary = Binary { program: dir.join("sluice"), symbols: dir.join("sluice.debug") };
    run(arch.objcopy()?.arg("--only-keep-debug").arg(&built).arg(&binary.symbols)).context("copying the symbols")?;
    run(arch.objcopy()?.arg("--strip-all").arg(&built).arg(&binary.program)).context("stripping the agent")?;
    Ok(binary)
}

fn build_command(arch: Arch, linker: &str, target: &Path) -> Command {
    let triple = arch.triple();
    let as_variable = triple.to_ascii_uppercase().replace('-', "_");
    let folders = build::folders_without_place(target);
    let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
    flags.extend(folders.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()).into()));
    let c_flags: Vec<String> =
        folders.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    let mut command = cargo("build");
    command.args(["--package", "lb-userspace", "--bin", "sluice", "--release", "--locked", "--target", triple]);
    command.arg("--target-dir").arg(target);
    // Replaces whatever flags the caller's environment has. They are not for build scripts: those run here.
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\u{1f}")));
    command.env(format!("CFLAGS_{}", triple.replace('-', "_")), c_flags.join(" "));
    command.env(format!("CARGO_TARGET_{as_variable}_LINKER"), linker);
    command.env("CARGO_INCREMENTAL", "0");
    command
}
