//! Writes the image as an OCI layout in a tar archive, with the file that `docker load` of older releases asks for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::arch::Arch;
use super::layer;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Where the program is in the image, and so what `kubectl exec` finds by its name.
pub const PROGRAM: &str = "usr/bin/sluice";

/// What an image says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name under which it is loaded, such as `ghcr.io/sluice-lb/sluice:v0.1.0`.
    pub name: String,
    /// Sluice's version.
    pub version: String,
    /// The commit.
    pub revision: String,
    /// The commit's date, in seconds.
    pub epoch: u64,
}

/// The files of an image for one processor.
#[derive(Clone, Debug)]
pub struct Content {
    /// The processor.
    pub arch: Arch,
    /// What is in its root.
    pub files: Vec<layer::File>,
}

/// SHA-256 as the specification writes it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// SHA-256 as `sha256sum` writes it.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The archive: one image, or one for each processor under a single name. The same input gives the same bytes.
pub fn write(facts: &Facts, contents: &[Content]) -> Result<Vec<u8>> {
    let mut blobs = Blobs::default();
    let mut loaded = Vec::new();
    let mut manifests = Vec::new();
    for content in contents {
        let image = image(facts, content, &mut blobs)?;
        manifests.push(image.descriptor);
        loaded.push(json!({
            "Config": path_of(&image.config),
            "RepoTags": [facts.name],
            "Layers": [path_of(&image.layer)],
        }));
    }
    // Docker's older releases load images of one processor only, and know no other file.
    loaded.truncate(1);
    let mut named = match manifests.as_slice() {
        [only] => only.clone(),
        _ => blobs.add(INDEX, to_json(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))),
    };
    // The one is containerd's, the other podman's and skopeo's.
    named["annotations"] = json!({
        "io.containerd.image.name": facts.name,
        "org.opencontainers.image.ref.name": facts.name,
    });
    let mut files: BTreeMap<String, Vec<u8>> =
        blobs.0.into_iter().map(|(digest, bytes)| (path_of(&digest), bytes)).collect();
    files.insert("index.json".into(), to_json(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]})));
    files.insert("manifest.json".into(), to_json(&Value::Array(loaded)));
    files.insert("oci-layout".into(), to_json(&json!({"imageLayoutVersion": "1.0.0"})));
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["blobs/", "blobs/sha256/"] {
        layer::append(&mut tar, folder, EntryType::Directory, 0o755, facts.epoch, &[])?;
    }
    for (path, bytes) in files {
        layer::append(&mut tar, &path, EntryType::Regular, 0o644, facts.epoch, &bytes)?;
    }
    Ok(tar.into_inner()?)
}

/// What refers to an image and to its parts.
struct Image {
    descriptor: Value,
    config: String,
    layer: String,
}

fn image(facts: &Facts, content: &Content, blobs: &mut Blobs) -> Result<Image> {
    let layer = layer::archive(&content.files, facts.epoch)?;
    let created = date(facts.epoch)?;
    let labels = json!({
        "org.opencontainers.image.title": "sluice",
        "org.opencontainers.image.description": "eBPF load balancer for Kubernetes Services",
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.licenses": "Apache-2.0 OR MIT",
        "org.opencontainers.image.version": facts.version,
        "org.opencontainers.image.revision": facts.revision,
        "org.opencontainers.image.created": created,
    });
    let platform = json!({"os": "linux", "architecture": content.arch.to_string()});
    let config = json!({
        "created": created,
        "os": "linux",
        "architecture": content.arch.to_string(),
        "config": {
            "User": "0:0",
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": [format!("/{PROGRAM}")],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created": created, "created_by": "cargo xtask image"}],
    });
    let config = blobs.add(CONFIG, to_json(&config));
    let layer = blobs.add(LAYER, layer::gzip(&layer)?);
    let text = |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
    let parts = (text(&config), text(&layer));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": labels,
    });
    let mut descriptor = blobs.add(MANIFEST, to_json(&manifest));
    descriptor["platform"] = platform;
    Ok(Image { descriptor, config: parts.0, layer: parts.1 })
}

/// Content by its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Keeps the bytes and returns what refers to them.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.0.insert(digest, bytes);
        descriptor
    }
}

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Keys are sorted: `serde_json`'s maps are, unless a feature says otherwise.
fn to_json(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Seconds since 1970 as RFC 3339 has them.
pub fn date(epoch: u64) -> Result<String> {
    let seconds = i64::try_from(epoch).context("a date after the end of time")?;
    Ok(jiff::Timestamp::from_second(seconds).with_context(|| format!("the date {epoch}"))?.to_string())
}
