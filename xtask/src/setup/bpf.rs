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

/// The nightly that is installed where none fits: a dated one, since its LLVM has to be one that `bpf-linker` knows and
/// the distribution has.
const PINNED_NIGHTLY: &str = "nightly-2026-05-20";

/// Where Debian's compiler is; a rustup proxy of the same name may come first on the `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where `core` for the BPF target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfToolchain {
    /// A rustup nightly, by its name, with `rust-src`: `core` is built along with the programs.
    Nightly(&'static str),
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`: `core` comes prebuilt.
    Debian,
}

impl fmt::Display for BpfToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly(name) => write!(f, "rustup's {name} with rust-src"),
            Self::Debian => f.write_str("Debian's rustc-web with libstd-rust-web-dev-bpf"),
        }
    }
}

impl BpfToolchain {
    /// Whether everything of this way is installed.
    fn is_present(self) -> bool {
        match self {
            Self::Nightly(_) => output(&mut self.rustc(&["--print", "sysroot"])).is_ok_and(|sysroot| {
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
            Self::Nightly(name) => {
                let mut rustup = clean("rustup");
                rustup.args(["toolchain", "install", name, "--no-self-update", "--profile", "minimal"]);
                run(rustup.args(["--component", "rust-src", "--component", "clippy"]))
            }
            Self::Debian => packages::install(&["rustc-web", "libstd-rust-web-dev-bpf"]),
        }
    }

    /// Where its own files are, which are in the object's BTF by their names.
    pub fn sysroot(self) -> Option<PathBuf> {
        let sysroot = output(&mut self.rustc(&["--print", "sysroot"])).ok()?;
        Some(PathBuf::from(sysroot.trim())).filter(|path| path.is_absolute())
    }

    fn rustc(self, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Nightly(name) => {
                let mut rustup = clean("rustup");
                rustup.args(["run", name, "rustc"]);
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
            Self::Nightly(name) => {
                let mut rustup = clean("rustup");
                // What the outer cargo runs with would win over the toolchain named here.
                rustup.env_remove("RUSTC").env_remove("CARGO").args(["run", name, "cargo", verb]);
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
            Self::Nightly(name) => {
                let mut rustup = clean("rustup");
                output(rustup.args(["run", name, "cargo", "clippy", "--version"])).is_ok()
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
    /// Prefers what is there and fits together; else installs.
    pub(super) fn find_or_install() -> Result<Self> {
        let toolchain = Self::toolchain()?;
        let llvm = toolchain.llvm()?;
        let linker = match find("bpf-linker").filter(|path| reads(path, llvm)) {
            Some(path) => path,
            None => install_linker(llvm)?,
        };
        Ok(Self { toolchain, linker })
    }

    fn toolchain() -> Result<BpfToolchain> {
        let ways = [BpfToolchain::Nightly(PINNED_NIGHTLY), BpfToolchain::Nightly("nightly"), BpfToolchain::Debian];
        let mut failures = Vec::new();
        for way in ways.into_iter().filter(|way| way.is_present()) {
            match way.llvm().map(|llvm| (llvm, linkable(llvm))) {
                Ok((_, true)) => return Ok(way),
                Ok((llvm, false)) => failures.push(format!("{way}: there is no linker for its LLVM {llvm}")),
                Err(error) => failures.push(format!("{way}: {error:#}")),
            }
        }
        // Not whatever "nightly" is today: its LLVM may be newer than any linker's.
        for way in [ways[0], ways[2]].into_iter().filter(|way| !way.is_present()) {
            match way.install() {
                Ok(()) if way.is_present() => return Ok(way),
                Ok(()) => failures.push(format!("{way}: installed, but it has no core for {TARGET}")),
                Err(error) => failures.push(format!("{way}: {error:#}")),
            }
        }
        bail!("no `core` for {TARGET}: {}", failures.join("; "))
    }
}

/// Whether there is a linker for bitcode of this LLVM, or the package to build one with.
fn linkable(llvm: u32) -> bool {
    find("bpf-linker").is_some_and(|path| reads(&path, llvm)) || packages::can_have(&llvm_packages(llvm)[0])
}

/// Whether the linker is recent enough, and its LLVM not older than the compiler's.
fn reads(linker: &Path, llvm: u32) -> bool {
    let recent = output(clean(linker).arg("--version")).is_ok_and(|text| {
        let version = text.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(0), Some(13))
    });
    // Linked against a shared LLVM, as Debian's is, the linker names it; one that has it inside is taken at its word.
    let own = output(clean("ldd").arg(linker)).ok().and_then(|libraries| shared_llvm(&libraries));
    recent && own.is_none_or(|own| own >= llvm)
}

fn shared_llvm(libraries: &str) -> Option<u32> {
    let (_, version) = libraries.split_once("libLLVM")?;
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The packages that `bpf-linker` is built with, LLVM itself first.
fn llvm_packages(llvm: u32) -> [String; 6] {
    let (llvm, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    [llvm, polly, "libzstd-dev".into(), "zlib1g-dev".into(), "libxml2-dev".into(), "g++".into()]
}

/// Builds `bpf-linker` against the LLVM that reads the compiler's bitcode.
fn install_linker(llvm: u32) -> Result<PathBuf> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    packages::install(&llvm_packages(llvm).each_ref().map(String::as_str))
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

    #[test]
    fn the_linkers_shared_llvm_is_known_by_its_file_name() {
        let debian = "\tlinux-vdso.so.1\n\tlibLLVM.so.22.1 => /lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x7f)\n";
        assert_eq!(shared_llvm(debian), Some(22));
        assert_eq!(shared_llvm("\tlibLLVM-19.so.1 => /usr/lib/llvm-19/lib/libLLVM-19.so.1\n"), Some(19));
        assert_eq!(shared_llvm("\tlibc.so.6 => /lib/libc.so.6\n"), None);
    }
}
