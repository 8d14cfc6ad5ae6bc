//! Where things are kept that take long to build or to fetch: outside the checkout, so that a fresh clone finds what
//! another one left.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The folder for one kind of thing; it need not exist yet.
pub fn dir(kind: &str) -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: no place to keep what was built or fetched")?;
    Ok(base.join("sluice").join(kind))
}
