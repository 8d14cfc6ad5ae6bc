//! The processors that images are made for, and what a build for each needs.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{clean, find, output, run};

/// A processor, by the name that container images have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl Arch {
    /// The processor of this machine.
    pub fn host() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("no image is made for {other}"),
        }
    }

    /// What Rust calls it, with the C library that is linked in.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What the names of GNU's tools for it begin with.
    fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// The name of a tool of GNU's for it; those for the host have the plain name.
    fn tool(self, name: &str) -> Result<String> {
        Ok(if self == Self::host()? { name.to_owned() } else { format!("{}-{name}", self.gnu()) })
    }

    /// The linker and the folder of its C library have to be there; one line says what is missing.
    pub(super) fn linker(self) -> Result<String> {
        let linker = self.tool("gcc")?;
        let gnu = self.gnu();
        let hint = match self {
            Self::Amd64 => "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
            Self::Arm64 => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        };
        let missing = || format!("{self}: missing: apt-get install {hint} (or another {linker} with a static libc)");
        if find(&linker).is_none() {
            bail!(if self == Self::host()? { format!("{self}: there is no {linker} ({gnu})") } else { missing() });
        }
        // GCC answers with a path where it has the file, and with the bare name where it has not.
        let libc = output(clean(&linker).arg("-print-file-name=libc.a"))?;
        if !libc.trim().contains('/') {
            bail!(if self == Self::host()? { format!("{self}: there is no libc.a to link with") } else { missing() });
        }
        Ok(linker)
    }

    /// Rust's own library for it, fetched if it is missing.
    pub(super) fn add_std(self) -> Result<()> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let dir = output(clean(rustc).args(["--print", "target-libdir", "--target", self.triple()]))?;
        if std::path::Path::new(dir.trim()).is_dir() {
            return Ok(());
        }
        run(clean("rustup").args(["target", "add", self.triple()]))
            .with_context(|| format!("{self}: rustup target add {}", self.triple()))
    }

    /// The program that takes sections out of its object files.
    pub(super) fn objcopy(self) -> Result<Command> {
        Ok(clean(self.tool("objcopy")?))
    }

    /// Its number in the header of an ELF file.
    pub(super) fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => object::elf::EM_X86_64,
            Self::Arm64 => object::elf::EM_AARCH64,
        }
    }
}
