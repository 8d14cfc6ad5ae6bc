//! A folder of manifests as a source: plain Kubernetes YAML or JSON, watched.
//!
//! Files count from the moment they are complete: closed after writing, or renamed into place. A file that cannot be
//! read keeps its last good content in force, and so does one that holds an unreadable document (its other documents
//! are taken). Files that begin with a dot are not read, so a folder mounted from a `ConfigMap` works.

mod decode;
mod document;
mod folder;
#[cfg(test)]
mod fuzz_tests;
mod labels;
mod lists;
mod plain;
mod reading;
mod split;
mod strict;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::Sender;

pub use self::decode::Unreadable;
use self::folder::Folder;
pub use self::labels::{Labels, labels};
pub use self::strict::{Slip, SlipKind, slips};
use crate::model::event::{Object, SourceEvent};

/// Why a folder cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// The path is not a folder that can be listed.
    #[error("folder of manifests {path}: {source}")]
    Folder {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The thread could not be started.
    #[error("thread for the folder of manifests: {0}")]
    Thread(#[source] std::io::Error),
}

/// The objects of a text, read as a file of the folder is; documents of other kinds yield none. Each document, and each
/// item of a list, may fail alone.
pub fn objects(text: &str) -> Vec<Result<Object, Unreadable>> {
    split::pieces(text).iter().filter_map(|piece| decode::decode(piece).transpose()).collect()
}

/// Reads a folder once: full lists, what could not be read, then [`SourceEvent::Synced`].
pub fn read(folder: &Path) -> Result<Vec<SourceEvent>, ManifestsError> {
    std::fs::read_dir(folder).map_err(|source| ManifestsError::Folder { path: folder.to_owned(), source })?;
    Ok(lists::as_lists(Folder::new(folder.to_owned()).scan(&BTreeSet::new())))
}

/// Starts to read and watch a folder, until the receiver is dropped.
///
/// First come the full lists, then what could not be read, then [`SourceEvent::Synced`], then changes.
pub fn spawn(folder: &Path, events: Sender<SourceEvent>) -> Result<JoinHandle<()>, ManifestsError> {
    let failed = |source| ManifestsError::Folder { path: folder.to_owned(), source };
    let path = folder.canonicalize().map_err(failed)?;
    std::fs::read_dir(&path).map_err(failed)?;
    // The path is kept as given: it may be a symlink that is to be followed anew each time.
    let folder = Folder::new(std::path::absolute(folder).map_err(failed)?);
    let run = move || watch::run(folder, &events);
    thread::Builder::new().name("manifests".into()).spawn(run).map_err(ManifestsError::Thread)
}
