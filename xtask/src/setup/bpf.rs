//! Finds or installs what turns Rust into BPF: a `core` for the target, in either of two ways, and `bpf-linker`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages;
use crate::command::{cargo, clean, find, output, run};

/// The BPF target's name: Sluice's programs run little endian, as every machine it supports.
pub const TARGET: &str = "bpfel-unknown-none";

/// The `bpf-linker` release line that is installed when there is none.
const LINKER_VERSION: &str = "0.13";

/// Where Debian's compiler is; a rustup proxy of the same name may come first on the `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where `core` for the BPF target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfToolchain {
    /// A rustup nightly with `rust-src`: `core` is built along with the programs.
    Nightly,
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`: `core` comes prebuilt.
    Debian,
}

impl fmt::Display for BpfToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc-web with libstd-rust-web-dev-bpf",
        })
    }
}

impl BpfToolchain {
    /// Whether everything of this way is installed.
    fn is_present(self) -> bool {
        match self {
            Self::Nightly => output(&mut self.rustc(&["--print", "sysroot"])).is_ok_and(|sysroot| {
                Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
            }),
            Self::Debian => {
                let libraries = Path::new("/usr/lib/rustlib").join(TARGET).join("lib");
                Path::new(DEBIAN_RUSTC).is_file()
                    && fs::read_dir(libraries).is_ok_and(|files| {
                        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
                    })
            }
        }
    }

    fn install(self) -> Result<()> {
        match self {
            Self::Nightly => {
                let mut rustup = clean("rustup");
                rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
                run(&mut rustup)
            }
            Self::Debian => packages::install(&["rustc-web", "libstd-rust-web-dev-bpf"]),
        }
    }

    fn rustc(self, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut rustup = clean("rustup");
                rustup.args(["run", "nightly", "rustc"]);
                rustup
            }
            Self::Debian => clean(DEBIAN_RUSTC),
        };
        command.args(args);
        command
    }

    /// Cargo for the BPF target: `verb` with this way's compiler and its `core`.
    pub fn cargo(self, verb: &str) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut rustup = clean("rustup");
                // What the outer cargo runs with would win over the toolchain named here.
                rustup.env_remove("RUSTC").env_remove("CARGO").args(["run", "nightly", "cargo", verb]);
                rustup.args(["-Z", "build-std=core"]);
                rustup
            }
            Self::Debian => {
                let mut debian = cargo(verb);
                debian.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                debian
            }
        };
        command.args(["--target", TARGET]);
        command
    }

    /// Whether this way's compiler comes with a clippy of its own.
    pub fn has_clippy(self) -> bool {
        match self {
            Self::Nightly => {
                let mut rustup = clean("rustup");
                output(rustup.args(["run", "nightly", "cargo", "clippy", "--version"])).is_ok()
            }
            Self::Debian => false,
        }
    }

    /// The major version of the LLVM whose bitcode this way's compiler writes; the linker's must not be older.
    fn llvm(self) -> Result<u32> {
        let version = output(&mut self.rustc(&["-vV"]))?;
        llvm_major(&version).with_context(|| format!("no LLVM version in what {self} says of itself"))
    }
}

fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

/// What builds the BPF object.
#[derive(Clone, Debug)]
pub struct BpfTools {
    /// Which `core`.
    pub toolchain: BpfToolchain,
    /// Where `bpf-linker` is.
    pub linker: PathBuf,
}

impl BpfTools {
    /// Prefers what is there; else installs, nightly first.
    pub(super) fn find_or_install() -> Result<Self> {
        let toolchain = Self::toolchain()?;
        let linker = match find("bpf-linker").filter(|path| is_recent(path)) {
            Some(path) => path,
            None => install_linker(toolchain.llvm()?)?,
        };
        Ok(Self { toolchain, linker })
    }

    fn toolchain() -> Result<BpfToolchain> {
        let ways = [BpfToolchain::Nightly, BpfToolchain::Debian];
        if let Some(way) = ways.into_iter().find(|way| way.is_present()) {
            return Ok(way);
        }
        let mut failures = Vec::new();
        for way in ways {
            match way.install() {
                Ok(()) if way.is_present() => return Ok(way),
                Ok(()) => failures.push(format!("{way}: installed, but it has no core for {TARGET}")),
                Err(error) => failures.push(format!("{way}: {error:#}")),
            }
        }
        bail!("no `core` for {TARGET}: {}", failures.join("; "))
    }
}

fn is_recent(linker: &Path) -> bool {
    output(clean(linker).arg("--version")).is_ok_and(|text| {
        let version = text.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(0), Some(13))
    })
}

/// Builds `bpf-linker` against the LLVM that reads the compiler's bitcode.
fn install_linker(llvm: u32) -> Result<PathBuf> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let llvm_dev = format!("llvm-{llvm}-dev");
    let polly_dev = format!("libpolly-{llvm}-dev");
    packages::install(&[&llvm_dev, &polly_dev, "libzstd-dev", "zlib1g-dev", "libxml2-dev", "g++"])
        .with_context(|| format!("bpf-linker {LINKER_VERSION} needs LLVM {llvm}"))?;
    println!("installing bpf-linker {LINKER_VERSION} with LLVM {llvm} (a minute or two)");
    let mut install = cargo("install");
    install
        .args(["bpf-linker", "--version", &format!("^{LINKER_VERSION}"), "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix)
        .env("LLVM_PREFIX", &prefix);
    run(&mut install)?;
    find("bpf-linker").context("bpf-linker was installed, but is neither on the PATH nor in cargo's bin folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read_from_the_compilers_own_words() {
        assert_eq!(llvm_major("rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.97.0-nightly\n"), None);
    }
}
