//! A piece of a file as it is remembered, so that only pieces that changed are parsed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::decode::Key;

/// A piece of a file, by the hash of its text, and the object that it holds (none: of no interest).
#[derive(Debug)]
pub(super) struct Document {
    pub(super) hash: u64,
    pub(super) key: Option<Arc<Key>>,
}

/// Hash of a piece's text.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
