//! Findings, and the debts that are known: what was there when a rule began. They may only fall.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::workspace_root;

/// One place that a rule objects to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// The rule, as `debts.toml` names it.
    pub(super) rule: &'static str,
    /// Where its debts are counted: a crate, a document, a word.
    pub(super) area: String,
    /// How much of a debt it is.
    pub(super) weight: usize,
    /// What is wrong where, for people.
    pub(super) text: String,
}

impl Finding {
    /// One that counts as one.
    pub(super) fn new(rule: &'static str, area: impl Into<String>, text: String) -> Self {
        Self { rule, area: area.into(), weight: 1, text }
    }
}

/// Debts by rule and area.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Debts(BTreeMap<String, BTreeMap<String, usize>>);

/// What has become of the known debts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Rule, area, found and known, of those that have grown.
    pub(super) grown: Vec<(String, String, usize, usize)>,
    /// The same of those that have fallen.
    pub(super) fallen: Vec<(String, String, usize, usize)>,
}

fn path() -> PathBuf {
    workspace_root().join("xtask/tidy/debts.toml")
}

impl Debts {
    /// Reads the known ones.
    pub(super) fn known() -> Result<Self> {
        let text = fs::read_to_string(path()).with_context(|| format!("reading {}", path().display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path().display()))
    }

    /// Sums findings up.
    pub(super) fn of(findings: &[Finding]) -> Self {
        let mut debts = Self::default();
        for finding in findings {
            let areas = debts.0.entry(finding.rule.to_owned()).or_default();
            *areas.entry(finding.area.clone()).or_default() += finding.weight;
        }
        debts
    }

    fn get(&self, rule: &str, area: &str) -> usize {
        self.0.get(rule).and_then(|areas| areas.get(area)).copied().unwrap_or_default()
    }

    /// All of them together.
    pub(super) fn total(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// Compares what was found with what is known.
    pub(super) fn judge(&self, found: &Self) -> Verdict {
        let keys = |debts: &Self| -> BTreeSet<(String, String)> {
            let areas = |(rule, areas): (&String, &BTreeMap<String, usize>)| {
                areas.keys().map(|area| (rule.clone(), area.clone())).collect::<Vec<_>>()
            };
            debts.0.iter().flat_map(areas).collect()
        };
        let mut verdict = Verdict::default();
        for (rule, area) in &keys(self) | &keys(found) {
            let (now, known) = (found.get(&rule, &area), self.get(&rule, &area));
            if now > known {
                verdict.grown.push((rule, area, now, known));
            } else if now < known {
                verdict.fallen.push((rule, area, now, known));
            }
        }
        verdict
    }

    /// Lowers each debt to what was found of it; raises none. Whether anything changed.
    pub(super) fn lower(&mut self, found: &Self) -> bool {
        let before = self.clone();
        for (rule, areas) in &mut self.0 {
            for (area, known) in areas.iter_mut() {
                *known = found.get(rule, area).min(*known);
            }
            areas.retain(|_, known| *known > 0);
        }
        self.0.retain(|_, areas| !areas.is_empty());
        *self != before
    }

    /// Writes them down.
    pub(super) fn write(&self) -> Result<()> {
        let head = "# What `cargo xtask tidy` found when a rule began, by rule and by where. These numbers may only fall:\n\
                    # `cargo xtask tidy --bless` lowers them to what is left. `cargo xtask tidy --all` shows the places.\n\n";
        let text = format!("{head}{}", toml::to_string_pretty(self)?);
        fs::write(path(), text).with_context(|| format!("writing {}", path().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debts(entries: &[(&'static str, &str, usize)]) -> Debts {
        let finding = |(rule, area, weight): &(&'static str, &str, usize)| Finding {
            rule,
            area: (*area).to_owned(),
            weight: *weight,
            text: String::new(),
        };
        Debts::of(&entries.iter().map(finding).collect::<Vec<_>>())
    }

    #[test]
    fn a_debt_that_grew_is_told_from_one_that_fell() {
        let known = debts(&[("lines", "a", 3), ("lines", "b", 1), ("words", "c", 2)]);
        let found = debts(&[("lines", "a", 4), ("words", "c", 2), ("order", "d", 1)]);
        let verdict = known.judge(&found);
        let row = |rule: &str, area: &str, now, known| (rule.to_owned(), area.to_owned(), now, known);
        assert_eq!(verdict.grown, [row("lines", "a", 4, 3), row("order", "d", 1, 0)]);
        assert_eq!(verdict.fallen, [row("lines", "b", 0, 1)]);
    }

    #[test]
    fn blessing_lowers_debts_and_never_raises_one() {
        let mut known = debts(&[("lines", "a", 3), ("lines", "b", 1), ("words", "c", 2)]);
        assert!(known.lower(&debts(&[("lines", "a", 9), ("words", "c", 1), ("order", "d", 1)])));
        assert_eq!(known, debts(&[("lines", "a", 3), ("words", "c", 1)]));
        assert!(!known.lower(&debts(&[("lines", "a", 9), ("words", "c", 1)])));
    }
}
