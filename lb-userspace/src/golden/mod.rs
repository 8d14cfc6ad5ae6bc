//! Golden scenarios: manifests, node facts and faults in, the maps as text out, one or more for each rule of Kubernetes'
//! Services. `scenarios/README.md` has the rules and the form of a scenario.
//!
//! A scenario that dumps other than its `.txt` says fails. After a change of behaviour that is wanted, run the tests with
//! `SLUICE_BLESS=1`, and read the difference before it is committed.

mod rules;
mod scenario;
mod stage;

use std::path::{Path, PathBuf};

use self::scenario::Scenario;

/// The folder of the scenarios.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// All scenarios by name.
fn scenarios() -> Vec<(String, Scenario)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", folder().display());
    let named = files.iter().map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::read(&name, &std::fs::read_to_string(path).unwrap());
        (name, scenario)
    });
    named.collect()
}

#[test]
fn each_scenario_ends_in_the_maps_that_its_text_says() {
    let bless = std::env::var_os("SLUICE_BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, scenario) in scenarios() {
        let path = folder().join(format!("{name}.txt"));
        let got = stage::play(&scenario);
        if bless {
            std::fs::write(&path, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if got != expected {
            wrong.push(format!("scenario {name}:\n{}", difference(&expected, &got)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nif this is wanted: SLUICE_BLESS=1 cargo test -p lb-userspace golden",
        wrong.join("\n")
    );
}

#[test]
fn each_text_belongs_to_a_scenario() {
    let names: Vec<String> = scenarios().into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(names.contains(&name), "{} has no scenario: remove it", path.display());
        }
    }
}

/// Lines that are only in one of the two, in the order of the text, and the step in which they begin.
fn difference(expected: &str, got: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let end = end.min(old.len().min(new.len()) - start);
    let step = old[..start].iter().rfind(|line| line.starts_with("== ")).map(|line| format!("  {line}"));
    let gone = old[start..old.len() - end].iter().map(|line| format!("- {line}"));
    let come = new[start..new.len() - end].iter().map(|line| format!("+ {line}"));
    step.into_iter().chain(gone).chain(come).collect::<Vec<_>>().join("\n")
}
