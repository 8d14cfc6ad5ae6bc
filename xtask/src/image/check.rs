//! Reads an image's archive as a container runtime would, and says what is wrong with it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout};
use serde_json::Value;

use super::arch::Arch;
use super::archive::{self, PROGRAM};

/// The most that the agent may have.
const LIMIT: usize = 30_000_000;

/// What was found in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The name under which it is loaded.
    pub name: String,
    /// What a registry would know it by.
    pub digest: String,
    /// The processors, in the order of the archive, with each one's root.
    pub roots: Vec<(Arch, Files)>,
}

/// Files by their path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Checks the archive against the OCI's specification and against what Sluice promises of its image.
pub fn check(bytes: &[u8]) -> Result<Checked> {
    let files = entries(bytes).context("the archive")?;
    let layout = OciLayout::from_reader(file(&files, "oci-layout")?).context("oci-layout")?;
    ensure!(layout.image_layout_version() == "1.0.0", "oci-layout: version {}", layout.image_layout_version());
    let index = ImageIndex::from_reader(file(&files, "index.json")?).context("index.json")?;
    let [named] = index.manifests().as_slice() else { bail!("index.json: one image is expected") };
    let annotations = named.annotations().clone().unwrap_or_default();
    let name = annotations.get("io.containerd.image.name").context("containerd finds no name")?.clone();
    let reference = annotations.get("org.opencontainers.image.ref.name");
    ensure!(reference == Some(&name), "podman would call it {reference:?}, containerd {name}");

    let inner;
    let manifests = match named.media_type() {
        MediaType::ImageManifest => index.manifests(),
        MediaType::ImageIndex => {
            inner = ImageIndex::from_reader(blob(&files, named)?).context("the index of processors")?;
            inner.manifests()
        }
        other => bail!("index.json refers to a {other}"),
    };
    let mut known = vec![named.digest().to_string()];
    let mut roots = Vec::new();
    for descriptor in manifests {
        let (arch, root, parts) =
            image(&files, descriptor).with_context(|| format!("the image {}", descriptor.digest()))?;
        known.extend(parts);
        roots.push((arch, root));
    }
    for path in files.keys().filter(|path| path.starts_with("blobs/sha256/")) {
        let digest = path.trim_start_matches("blobs/").replace('/', ":");
        ensure!(known.contains(&digest), "nothing refers to {path}");
    }
    docker(&files, &name)?;
    Ok(Checked { name, digest: named.digest().to_string(), roots })
}

/// One processor's image: its root, and the digests of its parts.
fn image(files: &Files, descriptor: &Descriptor) -> Result<(Arch, Files, Vec<String>)> {
    let manifest = ImageManifest::from_reader(blob(files, descriptor)?).context("its manifest")?;
    let config = ImageConfiguration::from_reader(blob(files, manifest.config())?).context("its configuration")?;
    let arch = match config.architecture().to_string().as_str() {
        "amd64" => Arch::Amd64,
        "arm64" => Arch::Arm64,
        other => bail!("it is for {other}"),
    };
    let platform = descriptor.platform().as_ref().context("the index says no processor")?;
    ensure!(platform.architecture() == config.architecture(), "the index says {}", platform.architecture());
    ensure!(config.os().to_string() == "linux", "it is for {}", config.os());
    let entrypoint = config.config().as_ref().and_then(|config| config.entrypoint().clone());
    ensure!(entrypoint == Some(vec![format!("/{PROGRAM}")]), "its entry point is {entrypoint:?}");

    let diff_ids = config.rootfs().diff_ids();
    let [layer] = manifest.layers().as_slice() else { bail!("{} layers", manifest.layers().len()) };
    ensure!(*layer.media_type() == MediaType::ImageLayerGzip, "its layer is {}", layer.media_type());
    let mut tar = Vec::new();
    GzDecoder::new(blob(files, layer)?).read_to_end(&mut tar).context("its layer")?;
    ensure!(*diff_ids == [archive::digest(&tar)], "its layer is not the one of its configuration");
    let root = entries(&tar).context("its layer")?;
    let program = root.get(PROGRAM).with_context(|| format!("it has no {PROGRAM}"))?;
    is_static(program, arch).with_context(|| format!("its {PROGRAM}"))?;
    let parts = [descriptor, manifest.config(), layer].map(|part| part.digest().to_string());
    Ok((arch, root, parts.to_vec()))
}

/// The entries of a tar archive, which have to be sorted, root's and of one date.
fn entries(bytes: &[u8]) -> Result<Files> {
    let mut files = Files::new();
    let mut last = None;
    let mut date = None;
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let header = entry.header();
        ensure!((header.uid()?, header.gid()?) == (0, 0), "{path} is not root's");
        ensure!(*date.get_or_insert(header.mtime()?) == header.mtime()?, "{path} is of another date");
        ensure!(last.as_ref() < Some(&path), "{path} is not where it is sorted to");
        ensure!(!path.starts_with('/') && !path.contains(".."), "{path} leaves the root");
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if entry.header().entry_type().is_file() {
            files.insert(path.clone(), content);
        }
        last = Some(path);
    }
    Ok(files)
}

fn file<'a>(files: &'a Files, path: &str) -> Result<&'a [u8]> {
    files.get(path).map(Vec::as_slice).with_context(|| format!("there is no {path}"))
}

/// What a descriptor refers to; its size and digest have to be right.
fn blob<'a>(files: &'a Files, descriptor: &Descriptor) -> Result<&'a [u8]> {
    let digest = descriptor.digest().to_string();
    let bytes = file(files, &format!("blobs/{}", digest.replace(':', "/")))?;
    ensure!(bytes.len() as u64 == descriptor.size(), "{digest} has {} bytes", bytes.len());
    ensure!(archive::digest(bytes) == digest, "{digest} has other content");
    Ok(bytes)
}

/// The file that older releases of Docker read.
fn docker(files: &Files, name: &str) -> Result<()> {
    let manifest: Value = serde_json::from_slice(file(files, "manifest.json")?).context("manifest.json")?;
    ensure!(manifest[0]["RepoTags"][0] == name, "manifest.json: docker would call it {}", manifest[0]["RepoTags"]);
    for path in [&manifest[0]["Config"], &manifest[0]["Layers"][0]] {
        file(files, path.as_str().unwrap_or_default()).context("manifest.json")?;
    }
    Ok(())
}

/// A program that needs no other file, without symbols and not too large.
fn is_static(program: &[u8], arch: Arch) -> Result<()> {
    ensure!(program.len() <= LIMIT, "it has {} MB", program.len() / 1_000_000);
    let header = elf::FileHeader64::<Endianness>::parse(program).context("no ELF file")?;
    let endian = header.endian().context("its byte order")?;
    ensure!(header.e_machine(endian) == arch.elf_machine(), "it is for another processor than {arch}");
    for segment in header.program_headers(endian, program).context("its segments")? {
        ensure!(segment.p_type(endian) != elf::PT_INTERP, "it asks for a dynamic linker");
        let Some(dynamic) = segment.dynamic(endian, program).context("what it asks for")? else { continue };
        let needed = dynamic.iter().filter(|entry| entry.d_tag.get(endian) == elf::DT_NEEDED).count();
        ensure!(needed == 0, "it asks for {needed} libraries");
    }
    let sections = header.sections(endian, program).context("its sections")?;
    ensure!(sections.section_by_name(endian, b".symtab").is_none(), "it has its symbols inside");
    Ok(())
}

/// Reads an archive from a file and checks it.
pub fn check_file(path: &Path) -> Result<Checked> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    check(&bytes).with_context(|| format!("{}", path.display()))
}
