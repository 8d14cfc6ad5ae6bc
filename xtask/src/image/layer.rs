//! The image's one layer: the files in it, as a tar archive that depends on nothing else.

use std::io::Write as _;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// A file of the layer.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is, from the root, without a slash in front.
    pub path: String,
    /// Who may do what with it.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The layer, not compressed: sorted, everything root's, everything of one date.
pub fn archive(files: &[File], epoch: u64) -> Result<Vec<u8>> {
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut folders = std::collections::BTreeSet::new();
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            let folder = &file.path[..=at];
            if folders.insert(folder.to_owned()) {
                append(&mut tar, folder, EntryType::Directory, 0o755, epoch, &[])?;
            }
        }
        append(&mut tar, &file.path, EntryType::Regular, file.mode, epoch, &file.content)?;
    }
    tar.into_inner().context("ending an archive in memory")
}

/// Adds an entry that says nothing of who made it, when and where.
pub(super) fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    epoch: u64,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("adding {path} to an archive in memory"))
}

/// Compressed, without a name and a date in the header.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let unknown_system = 255;
    let mut encoder = GzBuilder::new().mtime(0).operating_system(unknown_system).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).context("compressing in memory")
}
