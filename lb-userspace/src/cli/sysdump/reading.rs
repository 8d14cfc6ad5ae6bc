//! Reads files and streams as text, as far as they go.

use std::fs;
use std::io::Read;
use std::path::Path;

/// What a file holds at most.
const LIMIT: u64 = 16 << 20;

/// The lines that have one of the words in them.
pub(super) fn only(text: &str, words: &[&str]) -> String {
    let has = |line: &&str| words.iter().any(|word| line.contains(word));
    text.lines().filter(has).flat_map(|line| [line, "\n"]).collect()
}

/// A file, as far as it goes.
pub(super) fn file(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    limited(file).map_err(|error| error.to_string())
}

pub(super) fn limited(from: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LIMIT).read_to_end(&mut bytes)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if u64::try_from(bytes.len()).is_ok_and(|length| length == LIMIT) {
        text.push_str("\n[cut off here]\n");
    }
    Ok(text)
}
