//! Each rule of `scenarios/README.md` is shown: by a scenario that names it, or by a test that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{folder, scenarios};

/// A row of the tables: the rule, and the scenarios and tests that show it.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let mut rows = BTreeMap::new();
    let tables = text.split("| rule | what holds | shown by |").skip(1);
    let lines = tables.flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')));
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [rule, says, shown] = cells[..] else { panic!("a row has not three cells: {line}") };
        let shown: Vec<String> = shown.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!says.is_empty() && !shown.is_empty(), "nothing shows {rule}");
        let rule = rule.trim_matches('`').to_owned();
        assert!(rows.insert(rule.clone(), shown).is_none(), "{rule} is there twice");
    }
    rows
}

/// Text of all sources of the workspace's host crates.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = ["lb-common", "lb-userspace", "xtask"].map(|name| root.join(name)).into();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn each_rule_is_shown_by_a_scenario_or_by_a_test() {
    let scenarios: BTreeMap<String, Vec<String>> =
        scenarios().into_iter().map(|(name, scenario)| (name, scenario.rules)).collect();
    let sources = sources();
    let is_test = |name: &str| ["(", "<"].iter().any(|next| sources.contains(&format!("fn {name}{next}")));
    for (rule, shown) in rows() {
        for name in shown {
            match scenarios.get(&name) {
                Some(rules) => assert!(rules.contains(&rule), "scenario {name} does not name {rule} in its head"),
                None => assert!(is_test(&name), "{rule}: there is neither a scenario nor a test {name}"),
            }
        }
    }
}

#[test]
fn each_scenario_shows_a_rule() {
    let rows = rows();
    for (name, scenario) in scenarios() {
        assert!(!scenario.rules.is_empty(), "scenario {name} names no rule: begin it with `# rule: ...`");
        let named: BTreeSet<&String> = scenario.rules.iter().collect();
        for rule in named {
            let shown = rows.get(rule).unwrap_or_else(|| panic!("scenario {name}: README.md has no rule {rule}"));
            assert!(shown.contains(&name), "README.md does not say that {name} shows {rule}");
        }
    }
}
