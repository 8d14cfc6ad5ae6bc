//! The repository's files: Rust sources and documents.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use walkdir::{DirEntry, WalkDir};

use crate::command::workspace_root;

/// One file of text.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    /// Where it is, from the repository's root.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

impl TextFile {
    /// The folder right below the root: a crate, or `docs`.
    pub(super) fn area(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Whether it is a part of tests only, by where it is.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs")
    }
}

/// All Rust sources.
pub(super) fn rust() -> Result<Vec<TextFile>> {
    with_extension(workspace_root(), "rs")
}

/// All documents.
pub(super) fn documents() -> Result<Vec<TextFile>> {
    with_extension(workspace_root(), "md")
}

fn with_extension(root: &Path, extension: &str) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let walk = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| !is_left_out(entry));
    for entry in walk {
        let entry = entry.context("walking the repository")?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|found| found == extension) {
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).display().to_string();
            let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {path}"))?;
            files.push(TextFile { path, text });
        }
    }
    Ok(files)
}

/// What builds leave, and what begins with a dot.
fn is_left_out(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() > 0 && (name == "target" || name.starts_with('.'))
}
