//! Words that documents, help, logs and comments avoid, since readers in a hurry stumble over them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::debts::Finding;
use super::files::TextFile;

/// The words, with what to say instead.
pub(super) struct Words(Vec<(Vec<String>, String, String)>);

impl Words {
    /// The repository's list.
    pub(super) fn listed() -> Result<Self> {
        Self::parse(include_str!("../../tidy/words.toml"))
    }

    fn parse(text: &str) -> Result<Self> {
        let listed: BTreeMap<String, String> = toml::from_str(text).context("reading xtask/tidy/words.toml")?;
        let words = listed.into_iter().map(|(words, instead)| {
            let parts = words.split_whitespace().map(str::to_lowercase).collect();
            (parts, words, instead)
        });
        Ok(Self(words.collect()))
    }

    /// Looks through a document or a source file; a phrase may go over the end of a line.
    pub(super) fn check(&self, file: &TextFile) -> Vec<Finding> {
        let text = split(&file.text);
        let mut findings = Vec::new();
        for (parts, words, instead) in &self.0 {
            for window in text.windows(parts.len()) {
                if window.iter().zip(parts).all(|((word, _), part)| word == part) {
                    let line = window.first().map_or(0, |(_, line)| *line);
                    let text = format!("{}:{line}: \"{words}\"; say: {instead}", file.path);
                    findings.push(Finding::new("words", words, text));
                }
            }
        }
        findings
    }
}

/// The words of a text in lower case, each with its line. Punctuation between two words is one of them, so that a
/// phrase does not go over the end of a sentence; what only marks a comment or a line of a list is not.
fn split(text: &str) -> Vec<(String, usize)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start().trim_start_matches(['/', '!', '-', '*', '#', '>']);
        let mut word = String::new();
        for char in line.chars().chain([' ']) {
            if char.is_alphanumeric() || char == '_' {
                word.extend(char.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push((std::mem::take(&mut word), number + 1));
            }
            if !char.is_whitespace() && char != '`' {
                words.push((char.to_string(), number + 1));
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let words = Words::parse("\"none of ours\" = \"does not belong to Sluice\"\nlend = \"allocate\"\n").unwrap();
        let file = TextFile { path: "x.md".into(), text: text.into() };
        words.check(&file).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_phrase_is_found_over_the_end_of_a_line_and_of_a_comment() {
        assert_eq!(
            found("a\n    /// A packet that is None\n    /// of ours."),
            ["x.md:2: \"none of ours\"; say: does not belong to Sluice"]
        );
    }

    #[test]
    fn parts_of_words_and_of_sentences_are_left_alone() {
        assert!(found("lender, calendar, lend_port. There are none. Of ours").is_empty());
        assert_eq!(found("fn lend(x: u8)").len(), 1);
    }
}
