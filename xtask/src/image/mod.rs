//! `cargo xtask image`: the container image as an archive, made without a daemon, the same for everybody who builds the
//! commit.

mod arch;
pub mod archive;
mod binary;
pub mod check;
pub mod layer;
mod sbom;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub use arch::Arch;
pub use archive::Facts;
use archive::{Content, PROGRAM};
pub use binary::Binary;
use check::Checked;

use crate::build::target_dir;
use crate::command::{clean, is_root, output, run as run_command, workspace_root};

/// Where images are pulled from.
pub const REPOSITORY: &str = "ghcr.io/sluice-lb/sluice";

/// What image is made.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// The processors, with commas between: several make one archive with an image for each. The default is this one's.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub arch: Vec<Arch>,
    /// The tag. The default is `v` and the version.
    #[arg(long)]
    pub tag: Option<String>,
    /// The folder for the results. The default is `target/image`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The archive.
    pub archive: PathBuf,
    /// The agent for each processor.
    pub binaries: Vec<(Arch, Binary)>,
    /// A bill of materials for each processor.
    pub boms: Vec<PathBuf>,
}

/// Makes the image and prints what it is and how it is loaded.
pub fn run(args: &Args) -> Result<()> {
    let made = make(args)?;
    let checked = check::check_file(&made.archive)?;
    for (arch, files) in &checked.roots {
        let bytes = files.get(PROGRAM).map(Vec::len).unwrap_or_default();
        println!("agent    {arch}: {}.{} MB, static", bytes / 1_000_000, bytes / 100_000 % 10);
    }
    println!("image    {}", checked.name);
    println!("digest   {}", checked.digest);
    println!("archive  {}", made.archive.display());
    for (_, binary) in &made.binaries {
        println!("symbols  {}", binary.symbols.display());
    }
    for bom in &made.boms {
        println!("sbom     {}", bom.display());
    }
    let archive = made.archive.display();
    println!("load     ctr -n k8s.io images import {archive} | podman load -i {archive} | docker load -i {archive}");
    Ok(())
}

/// Makes the archive and what lies beside it, and checks the archive.
pub fn make(args: &Args) -> Result<Made> {
    let mut arches = if args.arch.is_empty() { vec![Arch::host()?] } else { args.arch.clone() };
    arches.sort_unstable();
    arches.dedup();
    let facts = facts(args.tag.as_deref())?;
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("image"));
    let mut contents = Vec::new();
    let mut binaries = Vec::new();
    for arch in arches {
        let binary = binary::build(arch, &out.join(arch.to_string()))?;
        contents.push(Content { arch, files: files(&binary.program)? });
        binaries.push((arch, binary));
    }
    let tag = facts.name.rsplit(':').next().unwrap_or_default();
    let suffix = contents.iter().fold(String::new(), |all, content| all + "-" + &content.arch.to_string());
    let archive = out.join(format!("sluice-{tag}{suffix}.oci.tar"));
    let bytes = archive::write(&facts, &contents)?;
    let checked = check::check(&bytes)?;
    fs::write(&archive, bytes).with_context(|| format!("writing {}", archive.display()))?;
    starts(&checked)?;
    let mut boms = Vec::new();
    for (arch, _) in &binaries {
        let path = out.join(format!("sluice-{tag}-{arch}.cdx.json"));
        fs::write(&path, sbom::document(&facts, *arch, &checked.digest)?)
            .with_context(|| format!("writing {}", path.display()))?;
        boms.push(path);
    }
    Ok(Made { archive, binaries, boms })
}

/// What is in the image's root: the agent and the licences.
fn files(program: &Path) -> Result<Vec<layer::File>> {
    let file = |from: &Path, path: &str, mode: u32| -> Result<layer::File> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        Ok(layer::File { path: path.to_owned(), mode, content })
    };
    let mut files = vec![file(program, PROGRAM, 0o755)?];
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.push(file(&workspace_root().join(licence), &format!("usr/share/doc/sluice/{licence}"), 0o644)?);
    }
    Ok(files)
}

/// The commit says when: builds of it have one date.
pub fn facts(tag: Option<&str>) -> Result<Facts> {
    let version = env!("CARGO_PKG_VERSION");
    let git = |args: &[&str]| output(clean("git").args(args)).map(|text| text.trim().to_owned());
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => given,
        Err(_) => git(&["log", "-1", "--format=%ct"]).context("set SOURCE_DATE_EPOCH where there is no repository")?,
    };
    Ok(Facts {
        name: format!("{REPOSITORY}:{}", tag.map_or_else(|| format!("v{version}"), str::to_owned)),
        version: version.to_owned(),
        revision: git(&["rev-parse", "HEAD"]).unwrap_or_default(),
        epoch: epoch.parse().with_context(|| format!("SOURCE_DATE_EPOCH: \"{epoch}\" is no number of seconds"))?,
    })
}

/// The agent for this machine's processor starts in the image's root, with nothing else in it.
fn starts(checked: &Checked) -> Result<()> {
    let Some((_, files)) = checked.roots.iter().find(|(arch, _)| Arch::host().is_ok_and(|host| host == *arch)) else {
        return Ok(());
    };
    if !is_root() {
        println!("only root can try the agent in the image's root: not tried");
        return Ok(());
    }
    let root = tempfile::tempdir().context("making a folder")?;
    let program = root.path().join(PROGRAM);
    fs::create_dir_all(program.parent().unwrap_or(root.path())).context("making the image's root")?;
    fs::write(&program, files.get(PROGRAM).context("no agent")?).context("making the image's root")?;
    run_command(Command::new("chmod").arg("755").arg(&program))?;
    let said = output(clean("chroot").arg(root.path()).arg(format!("/{PROGRAM}")).arg("version"))?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "the agent in the image says: {said}");
    Ok(())
}
