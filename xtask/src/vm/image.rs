//! A guest's first file system.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::store::{Stored, files};
use super::suite::Built;
use crate::command::{clean, find, output};

/// The guest's first process.
const INIT: &str = include_str!("init.sh");
/// Programs of the host that tests call.
const TOOLS: [&str; 4] = ["ip", "tc", "nft", "ethtool"];
/// Folders that have to be there to be mounted on.
const FOLDERS: [&str; 7] = ["proc", "sys", "dev", "tmp", "run", "mnt", "root"];

/// Makes the image: modules, tools, the programs under test and the script that runs them.
pub(super) fn make(stored: &Stored, built: &Built, script: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut libraries = BTreeSet::new();
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    archive.file("init", INIT.as_bytes())?;
    archive.file("tests.sh", script.as_bytes())?;
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("etc/hosts", b"127.0.0.1 localhost\n")?;
    let root = stored.root();
    for module in files(&root)? {
        let inner = module.strip_prefix(&root)?.to_str().context("a module's name is not text")?;
        archive.copy(inner, &module)?;
    }

    let host = |name: &str| find(name).with_context(|| format!("no {name} on this machine"));
    for (name, program) in [("busybox", host("busybox")?), ("kmod", fs::canonicalize(host("depmod")?)?)] {
        archive.copy(&format!("bin/{name}"), &program)?;
        libraries.extend(linked_to(&program)?);
    }
    archive.link("sbin/modprobe", "/bin/kmod")?;
    for tool in TOOLS {
        let program = host(tool)?;
        archive.copy(&format!("bin/{tool}"), &program)?;
        libraries.extend(linked_to(&program)?);
    }
    let draft = tempfile::tempdir().context("making a folder for stripped programs")?;
    for (program, path) in &built.programs {
        archive.copy(path, &stripped(program, draft.path())?)?;
        libraries.extend(linked_to(program)?);
    }
    archive.copy("sluice-bpf.o", &built.object)?;
    for library in libraries {
        let path = library.to_str().context("a library's name is not text")?;
        archive.copy(path.trim_start_matches('/'), &library)?;
    }
    archive.finish()
}

/// The libraries that a program is linked to, the loader included; none for a static one.
fn linked_to(program: &Path) -> Result<Vec<PathBuf>> {
    let told = clean("ldd").arg(program).env("LC_ALL", "C").output().context("starting `ldd`")?;
    if !told.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// The program without what only a debugger reads, where there is a tool to take it out.
fn stripped(program: &Path, draft: &Path) -> Result<PathBuf> {
    let Some(strip) = find("strip") else { return Ok(program.to_owned()) };
    let target = draft.join(program.file_name().unwrap_or(program.as_os_str()));
    let command: &mut Command = &mut clean(strip);
    output(command.arg("-o").arg(&target).arg(program))?;
    Ok(target)
}
