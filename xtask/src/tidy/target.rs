//! The workspace's compilation targets, as cargo lists them: each has its own tree of modules.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{cargo, output};

/// One target: a library, a program, a test or a bench.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its package.
    pub(super) package: String,
    /// Its name among the package's targets.
    pub(super) name: String,
    /// The file that it begins with.
    pub(super) root: PathBuf,
    /// Whether it is a library.
    pub(super) is_library: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

/// All targets of the workspace.
pub(super) fn all() -> Result<Vec<Target>> {
    let listed = output(cargo("metadata").args(["--no-deps", "--offline", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&listed).context("reading what `cargo metadata` printed")?;
    let targets = metadata.packages.into_iter().flat_map(|package| {
        let of_package = package.name;
        package.targets.into_iter().map(move |listed| Target {
            package: of_package.clone(),
            name: listed.name,
            root: listed.src_path,
            is_library: listed.kind.iter().any(|kind| kind == "lib"),
        })
    });
    Ok(targets.collect())
}
