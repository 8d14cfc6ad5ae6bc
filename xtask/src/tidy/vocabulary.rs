//! Counters and metrics: the documents name the ones that there are, and no others.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lb_common::abi::Counter;

use super::code;
use super::debts::Finding;
use super::files::TextFile;

/// The document that lists them.
const LIST: &str = "docs/operations.md";
/// Where metrics get their names.
const METRICS: &str = "lb-userspace/src/metrics/";

/// Compares code and documents.
pub(super) fn check(sources: &[TextFile], documents: &[TextFile]) -> Result<Vec<Finding>> {
    let list = documents.iter().find(|file| file.path == LIST).with_context(|| format!("there is no {LIST}"))?;
    let read: Vec<&TextFile> = documents.iter().filter(|file| is_for_users(&file.path)).collect();
    let counters = Counter::ALL.iter().map(|counter| counter.name().to_owned()).collect();
    let mut findings = compare("counters", &counters, &["drop_", "reject_"], list, &read);
    findings.extend(compare("metrics", &metrics(sources)?, &["sluice_"], list, &read));
    Ok(findings)
}

fn is_for_users(path: &str) -> bool {
    path == "README.md" || (path.starts_with("docs/") && path != "docs/development.md")
}

/// All texts in the metrics' code that are a metric's name.
fn metrics(sources: &[TextFile]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in sources.iter().filter(|file| file.path.starts_with(METRICS) && !file.is_test()) {
        let tokens = code::tokens(file)?;
        // Only texts: a module may be called so, too.
        let texts = tokens.iter().filter(|token| token.text.starts_with('"')).map(|token| token.text.trim_matches('"'));
        names.extend(texts.filter(|text| text.starts_with("sluice_") && text.chars().all(in_name)).map(str::to_owned));
    }
    Ok(names)
}

fn in_name(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_'
}

/// Each of `names` has to be in the list; what begins as one of them does and is in a document has to be one of them.
fn compare(
    rule: &'static str,
    names: &BTreeSet<String>,
    prefixes: &[&str],
    list: &TextFile,
    documents: &[&TextFile],
) -> Vec<Finding> {
    let listed = mentioned(&list.text);
    let missing = names.difference(&listed).map(|name| format!("{}: does not mention `{name}`", list.path));
    let mut findings: Vec<Finding> = missing.map(|text| Finding::new(rule, LIST, text)).collect();
    for file in documents {
        for word in mentioned(&file.text) {
            let looks_so = prefixes.iter().any(|prefix| word.starts_with(prefix) && word != *prefix);
            // `drop_snat_*` stands for several.
            let stands_for_some = word.ends_with('_') && names.iter().any(|name| name.starts_with(&word));
            if looks_so && !names.contains(&word) && !stands_for_some {
                let text = format!("{}: there is no `{word}`", file.path);
                findings.push(Finding::new(rule, file.path.as_str(), text));
            }
        }
    }
    findings
}

/// The names that stand at the beginning of what a document puts between backticks.
fn mentioned(text: &str) -> BTreeSet<String> {
    let code = text.split('`').skip(1).step_by(2);
    let words = code.flat_map(|code| code.split(|char| !in_name(char)));
    words.filter(|word| word.contains('_')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let names = ["new_flow", "drop_ttl", "drop_snat_a"].map(str::to_owned).into();
        let file = TextFile { path: LIST.into(), text: text.into() };
        let found = compare("counters", &names, &["drop_"], &file, &[&file]);
        found.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn documents_that_name_what_there_is_pass() {
        assert!(
            findings("`new_flow`, `drop_ttl`, `drop_snat_a`: `drop_snat_*`, `drop_`, and drop_it in prose").is_empty()
        );
    }

    #[test]
    fn a_counter_that_is_not_listed_and_one_that_is_gone_are_found() {
        assert_eq!(
            findings("`new_flow{reason}` `drop_snat_a` `drop_gone`"),
            [format!("{LIST}: does not mention `drop_ttl`"), format!("{LIST}: there is no `drop_gone`")]
        );
    }
}
