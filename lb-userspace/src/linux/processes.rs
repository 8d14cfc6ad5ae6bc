//! The processes that a proc file system shows.

use std::fs;
use std::path::{Path, PathBuf};

/// Ids and folders of those below `proc`, such as `/proc`. Any of them may have ended when it is looked at.
pub fn all(proc: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}
