//! The Helm chart's values: the schema and the commented list have every flag of `sluice run`, and nothing else.
//!
//! `SLUICE_BLESS=1 cargo test -p lb-userspace --lib chart` writes both.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction};
use serde_json::{Map, Value, json};

use super::settings::{RUN, grammar};

/// What the `DaemonSet` sets itself, and what needs files that a Pod of the chart has not.
const NOT_VALUES: [&str; 6] = ["config", "kube", "kubeconfig", "manifests", "node-name", "help"];

const BEGIN: &str = "  # settings: written by SLUICE_BLESS=1 cargo test -p lb-userspace --lib chart\n";
const END: &str = "  # end of settings\n";

fn chart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/sluice").join(file)
}

/// The flags that are values, by their names in the file, sorted.
fn settings() -> Vec<(String, Arg)> {
    let grammar = grammar();
    let run = grammar.find_subcommand(RUN).unwrap();
    let mut settings: Vec<(String, Arg)> = run
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?, arg)))
        .filter(|(long, _)| !NOT_VALUES.contains(long))
        .map(|(long, arg)| (camel(long), arg.clone()))
        .collect();
    settings.sort_by(|(a, _), (b, _)| a.cmp(b));
    settings
}

fn camel(kebab: &str) -> String {
    let mut parts = kebab.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_ascii_uppercase() + &part[1..])
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    help.trim().replace('\n', " ")
}

fn default(arg: &Arg) -> Option<String> {
    arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned())
}

/// What a value may be, as far as it can be said: the agent looks closer when it starts.
fn schema(arg: &Arg) -> Value {
    let several = matches!(arg.get_action(), ArgAction::Append);
    let mut schema = if matches!(arg.get_action(), ArgAction::SetTrue) {
        json!({"type": "boolean"})
    } else if several {
        json!({"type": ["array", "string"], "items": {"type": "string"}})
    } else if arg.get_possible_values().is_empty() {
        // Numbers are text to the environment, but nobody should have to quote them.
        json!({"type": ["string", "integer"]})
    } else {
        let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        json!({"type": "string", "enum": values})
    };
    schema["description"] = help(arg).into();
    if let Some(default) = default(arg) {
        schema["default"] = default.into();
    }
    schema
}

/// A line of help and the setting with its default, or with what it is.
fn commented((name, arg): &(String, Arg)) -> String {
    let value = match arg.get_action() {
        ArgAction::SetTrue => "false".to_owned(),
        ArgAction::Append => "[]".to_owned(),
        _ => default(arg).map_or_else(|| "\"\"".to_owned(), |value| format!("\"{value}\"")),
    };
    format!("  # {}\n  # {name}: {value}\n", help(arg))
}

#[test]
fn the_charts_schema_has_every_setting_of_the_agent() {
    let text = fs::read_to_string(chart("values.schema.json")).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let properties: Map<String, Value> = settings().iter().map(|(name, arg)| (name.clone(), schema(arg))).collect();
    document["properties"]["config"]["properties"] = properties.into();
    compare("values.schema.json", &text, &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
    assert_eq!(document["properties"]["config"]["additionalProperties"], false);
}

#[test]
fn the_charts_values_name_every_setting_of_the_agent() {
    let text = fs::read_to_string(chart("values.yaml")).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let lines: String = settings().iter().map(commented).collect();
    compare("values.yaml", &text, &[before, BEGIN, &lines, END, after].concat());
}

fn compare(file: &str, is: &str, should: &str) {
    if std::env::var_os("SLUICE_BLESS").is_some() {
        // Other tests read it meanwhile.
        let fresh = chart(file).with_extension("new");
        fs::write(&fresh, should).unwrap();
        fs::rename(&fresh, chart(file)).unwrap();
        return;
    }
    assert_eq!(is, should, "{file} is not what the flags say: SLUICE_BLESS=1 cargo test -p lb-userspace --lib chart");
}

#[test]
fn values_and_schema_have_the_same_fields() {
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(chart("values.yaml")).unwrap()).unwrap();
    let schema: Value = serde_json::from_str(&fs::read_to_string(chart("values.schema.json")).unwrap()).unwrap();
    let (mut pending, mut seen) = (vec![(String::new(), &values, &schema)], 0);
    while let Some((path, values, schema)) = pending.pop() {
        let known = schema["properties"].as_object();
        // Free objects, and settings, of which the values name only those that differ.
        let Some(known) = known.filter(|_| path != ".config") else { continue };
        let given = values.as_object().unwrap();
        assert_eq!(given.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>(), "{path}");
        assert_eq!(schema["additionalProperties"], false, "{path}");
        seen += given.len();
        pending.extend(given.iter().map(|(name, value)| (format!("{path}.{name}"), value, &known[name])));
    }
    assert!(seen > 15, "{seen}");
    let set = values["config"].as_object().unwrap();
    let settings = schema["properties"]["config"]["properties"].as_object().unwrap();
    assert!(set.keys().all(|name| settings.contains_key(name)), "{set:?}");
}
