//! The invariants of ARCHITECTURE.md that say what some part of the code does not know.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::code;
use super::debts::Finding;
use super::files::TextFile;

/// What must not be in some files.
#[derive(Debug, Deserialize)]
struct Invariant {
    /// What it says, for people.
    says: String,
    /// Files and folders that it is about, from the repository's root.
    files: Vec<String>,
    /// Those within that are not meant.
    #[serde(default)]
    except: Vec<String>,
    /// Names and paths that must not be in the code.
    absent: Vec<String>,
}

#[derive(Deserialize)]
struct Listed {
    invariant: Vec<Invariant>,
}

/// The invariants, ready to be checked.
pub(super) struct Invariants(Vec<(Invariant, Vec<Vec<String>>)>);

impl Invariants {
    /// The repository's list.
    pub(super) fn listed() -> Result<Self> {
        let listed: Listed =
            toml::from_str(include_str!("../../tidy/invariants.toml")).context("reading xtask/tidy/invariants.toml")?;
        let with_patterns = listed.invariant.into_iter().map(|invariant| {
            let patterns = invariant.absent.iter().map(|text| code::pattern(text)).collect::<Result<_>>()?;
            Ok((invariant, patterns))
        });
        Ok(Self(with_patterns.collect::<Result<_>>()?))
    }

    /// An invariant that is about no file guards nothing: its files have been moved.
    pub(super) fn check_that_all_apply(&self, files: &[TextFile]) -> Result<()> {
        for (invariant, _) in &self.0 {
            for path in invariant.files.iter().chain(&invariant.except) {
                let exists = files.iter().any(|file| file.path.starts_with(path.as_str()));
                ensure!(exists, "xtask/tidy/invariants.toml: \"{}\": there is no {path}", invariant.says);
            }
        }
        Ok(())
    }

    /// Checks one file.
    pub(super) fn check(&self, file: &TextFile) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let is_in = |paths: &[String]| paths.iter().any(|path| file.path.starts_with(path.as_str()));
        let meant = self.0.iter().filter(|(invariant, _)| is_in(&invariant.files) && !is_in(&invariant.except));
        let meant: Vec<_> = meant.collect();
        if meant.is_empty() || file.is_test() {
            return Ok(findings);
        }
        let tokens = code::tokens(file)?;
        for (invariant, patterns) in meant {
            for (text, pattern) in invariant.absent.iter().zip(patterns) {
                let places = tokens
                    .windows(pattern.len())
                    .filter(|window| window.iter().zip(pattern).all(|(token, wanted)| token.text == *wanted));
                for place in places {
                    let line = place.first().map_or(0, |token| token.line);
                    let text = format!("{}:{line}: {text}; but: {}", file.path, invariant.says);
                    findings.push(Finding::new("invariants", file.area(), text));
                }
            }
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_name_counts_in_code_but_not_in_comments_texts_and_tests() {
        let invariant = Invariant {
            says: "no counters".into(),
            files: vec!["a/".into()],
            except: vec!["a/b.rs".into()],
            absent: vec!["Counter::".into()],
        };
        let invariants = Invariants(vec![(invariant, vec![code::pattern("Counter::").unwrap()])]);
        let text =
            "//! Counter::A\n/// Counter::B\nfn f() { g(\"Counter::C\"); }\n#[cfg(test)]\nfn t() { Counter::D; }\n";
        let lines = |path: &str, more: &str| {
            let file = TextFile { path: path.into(), text: format!("{text}{more}") };
            invariants.check(&file).unwrap().len()
        };
        assert_eq!(lines("a/a.rs", ""), 0);
        assert_eq!(lines("a/a.rs", "fn h() { count(Counter::E); Counters::F; }"), 1);
        assert_eq!(lines("a/b.rs", "fn h() { count(Counter::E); }"), 0);
    }
}
