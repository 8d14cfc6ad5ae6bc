//! Reads a configuration file: YAML documents of kube-proxy's kind and of ours.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::findings::{Known, Loaded};
use super::{kube_proxy, sluice};

/// Why a file is of no use at all.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("configuration {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("configuration {path} is no valid YAML: {message}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// A document is of an unknown kind.
    #[error(
        "configuration {path} has kind {kind:?} of {api_version:?}: KubeProxyConfiguration of {}, or {} of {} is expected",
        kube_proxy::API_VERSION,
        sluice::KIND,
        sluice::API_VERSION
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// `kind`.
        kind: String,
        /// `apiVersion`.
        api_version: String,
    },
}

/// Reads a file. `known` says what the flags of `sluice run` take.
pub fn read(path: &Path, known: Known<'_>) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path, known)
}

/// The same with what a file holds.
pub fn parse(text: &str, path: &Path, known: Known<'_>) -> Result<Loaded, ConfigError> {
    // YAML 1.1's yes, no, on, off, y and n are text, as in YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ConfigError::Yaml { path: path.to_owned(), message: error.to_string() })?;
    let mut loaded = Loaded::default();
    for document in documents.iter().filter(|document| !document.is_null()) {
        let word = |field: &str| document[field].as_str().unwrap_or_default();
        match (word("apiVersion"), word("kind")) {
            (kube_proxy::API_VERSION, kube_proxy::KIND) => kube_proxy::read(document, &mut loaded),
            (sluice::API_VERSION, sluice::KIND) => sluice::read(document, known, &mut loaded),
            (api_version, kind) => {
                return Err(ConfigError::Kind {
                    path: path.to_owned(),
                    kind: kind.to_owned(),
                    api_version: api_version.to_owned(),
                });
            }
        }
    }
    Ok(loaded)
}
