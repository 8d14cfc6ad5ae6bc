//! `cargo xtask release`: everything that a release publishes, in one folder, with checksums.

mod deb;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use walkdir::WalkDir;

use crate::build::target_dir;
use crate::command::{clean, find, output, workspace_root};
use crate::image::archive::hex;
use crate::image::layer::{File, archive, gzip};
use crate::image::{self, Arch, Facts};

/// The version of everything in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Manifests that are rendered, by the end of their names.
const RENDERED: [(&str, &str); 4] = [
    ("", "deploy/kustomize"),
    ("-kubeadm", "deploy/kustomize/overlays/kubeadm"),
    ("-k3s", "deploy/kustomize/overlays/k3s"),
    ("-kind", "deploy/kustomize/overlays/kind"),
];

/// What is released.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// The processors, with commas between. The default is this one's.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub arch: Vec<Arch>,
    /// Try it out: the notes are those of what is not released, and files that are not committed do no harm.
    #[arg(long)]
    pub draft: bool,
    /// The folder for the results. The default is `target/release-files`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Makes everything and prints where it is.
pub fn run(args: &Args) -> Result<()> {
    let notes = notes(&read("CHANGELOG.md")?, if args.draft { "Unreleased" } else { VERSION })?;
    ensure!(args.draft || is_clean()?, "there are changes that are not committed; --draft releases them all the same");
    let facts = image::facts(None)?;
    let mut files = sources(&facts)?;
    files.push(("NOTES.md".into(), notes.into_bytes()));
    let made = image::make(&image::Args { arch: args.arch.clone(), tag: None, out: None })?;
    files.push((file_name(&made.archive)?, load(&made.archive)?));
    for bom in &made.boms {
        files.push((file_name(bom)?, load(bom)?));
    }
    for (arch, binary) in &made.binaries {
        let program = load(&binary.program)?;
        files.push((format!("sluice-v{VERSION}-linux-{arch}.tar.gz"), program_archive(&facts, program.clone())?));
        files.push((format!("sluice-v{VERSION}-linux-{arch}.debug.gz"), gzip(&load(&binary.symbols)?)?));
        files.push((deb::name(VERSION, *arch), package(&facts, *arch, program)?));
    }
    files.sort();
    files.push(("SHA256SUMS".into(), checksums(&files).into_bytes()));
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("release-files"));
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("emptying {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    for (name, content) in &files {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// SHA-256 sums in the form that `sha256sum --check` reads.
fn checksums(files: &[(String, Vec<u8>)]) -> String {
    files.iter().fold(String::new(), |all, (name, content)| all + &hex(content) + "  " + name + "\n")
}

/// What is made of the sources alone: the chart and the manifests.
fn sources(facts: &Facts) -> Result<Vec<(String, Vec<u8>)>> {
    let chart = folder("deploy/helm/sluice", "sluice")?;
    let kustomize = folder("deploy/kustomize", "kustomize")?;
    let packed = |files: &[File]| gzip(&archive(files, facts.epoch)?);
    let mut made = vec![
        (format!("sluice-{VERSION}.tgz"), packed(&chart)?),
        (format!("sluice-v{VERSION}-kustomize.tar.gz"), packed(&kustomize)?),
    ];
    let kubectl = find("kubectl").context("the manifests are rendered by kubectl, which is missing")?;
    for (suffix, path) in RENDERED {
        let yaml = output(clean(&kubectl).arg("kustomize").arg(path)).with_context(|| format!("rendering {path}"))?;
        ensure!(yaml.contains(&format!("image: {}", facts.name)), "{path} has another image than {}", facts.name);
        made.push((format!("sluice-v{VERSION}{suffix}.yaml"), yaml.into_bytes()));
    }
    Ok(made)
}

/// The files of a folder, below another name.
fn folder(path: &str, name: &str) -> Result<Vec<File>> {
    let root = workspace_root().join(path);
    let mut files = Vec::new();
    for entry in WalkDir::new(&root) {
        let entry = entry.with_context(|| format!("walking {path}"))?;
        if entry.file_type().is_file() {
            let below = entry.path().strip_prefix(&root).unwrap_or(entry.path()).display();
            files.push(File { path: format!("{name}/{below}"), mode: 0o644, content: load(entry.path())? });
        }
    }
    Ok(files)
}

fn program_archive(facts: &Facts, program: Vec<u8>) -> Result<Vec<u8>> {
    let file =
        |name: &str, mode: u32, content: Vec<u8>| File { path: format!("sluice-v{VERSION}/{name}"), mode, content };
    let mut files = vec![file("sluice", 0o755, program)];
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"] {
        files.push(file(name, 0o644, read(name)?.into_bytes()));
    }
    for name in ["sluice.service", "sluice.yaml"] {
        files.push(file(name, 0o644, read(&format!("deploy/systemd/{name}"))?.into_bytes()));
    }
    gzip(&archive(&files, facts.epoch)?)
}

fn package(facts: &Facts, arch: Arch, program: Vec<u8>) -> Result<Vec<u8>> {
    deb::write(deb::Package {
        arch,
        version: VERSION,
        epoch: facts.epoch,
        program,
        unit: read("deploy/systemd/sluice.service")?.into_bytes(),
        config: read("deploy/systemd/sluice.yaml")?.into_bytes(),
        copyright: deb::copyright(&read("LICENSE-APACHE")?, &read("LICENSE-MIT")?),
    })
}

/// The section of one version.
fn notes(changelog: &str, version: &str) -> Result<String> {
    let heading = format!("## [{version}]");
    let mut lines = changelog.lines().skip_while(|line| !line.starts_with(&heading));
    let first = lines.next().with_context(|| format!("CHANGELOG.md has no section {heading}"))?;
    let body: Vec<&str> = lines.take_while(|line| !line.starts_with("## ") && !is_link(line)).collect();
    let body = body.join("\n").trim().to_owned();
    ensure!(!body.is_empty(), "CHANGELOG.md: the section {heading} is empty");
    Ok(format!("{first}\n\n{body}\n"))
}

/// `[1.0.0]: https://...`, as they are at the end of a changelog.
fn is_link(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

fn is_clean() -> Result<bool> {
    Ok(output(clean("git").args(["status", "--porcelain"]))?.trim().is_empty())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(workspace_root().join(path)).with_context(|| format!("reading {path}"))
}

fn load(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn file_name(path: &Path) -> Result<String> {
    Ok(path.file_name().context("a file without a name")?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_the_section_of_the_version_and_nothing_else() {
        let changelog = "# C\n\n## [Unreleased]\n\n- new\n\n## [1.1.0] - 2026-01-01\n\n### Added\n\n- a\n\n## [1.0.0]\n\n\
            - b\n\n[1.0.0]: https://x\n";
        assert_eq!(notes(changelog, "1.1.0").unwrap(), "## [1.1.0] - 2026-01-01\n\n### Added\n\n- a\n");
        assert_eq!(notes(changelog, "1.0.0").unwrap(), "## [1.0.0]\n\n- b\n");
        assert!(notes(changelog, "2.0.0").unwrap_err().to_string().contains("no section ## [2.0.0]"));
        assert!(notes("## [1.0.0]\n\n## [0.9.0]\n- x\n", "1.0.0").unwrap_err().to_string().contains("is empty"));
        assert!(!notes(&read("CHANGELOG.md").unwrap(), "Unreleased").unwrap().is_empty());
    }

    #[test]
    fn the_chart_and_the_manifests_are_of_the_workspaces_version() {
        let chart = read("deploy/helm/sluice/Chart.yaml").unwrap();
        for field in ["version", "appVersion"] {
            assert!(chart.lines().any(|line| line == format!("{field}: {VERSION}")), "{field}: {chart}");
        }
        let base = read("deploy/kustomize/base/kustomization.yaml").unwrap();
        assert!(base.contains(&format!("newName: {}\n    newTag: v{VERSION}\n", image::REPOSITORY)), "{base}");
        let values = read("deploy/helm/sluice/values.yaml").unwrap();
        assert!(values.contains(&format!("repository: {}\n", image::REPOSITORY)), "{values}");
    }

    #[test]
    fn a_chart_is_packed_below_its_name() {
        let files = folder("deploy/helm/sluice", "sluice").unwrap();
        let has = |path: &str| files.iter().any(|file| file.path == path);
        assert!(has("sluice/Chart.yaml") && has("sluice/templates/daemonset.yaml") && has("sluice/values.schema.json"));
    }
}
