//! What an agent has in the kernel, in a form in which all agents that want the same agree: without ids, times and counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use xtask::lab::Agent;

/// Tables that hold nothing but what agents write for Services and devices.
const EXACT: [&str; 12] = [
    "FRONTENDS4",
    "FRONTENDS6",
    "BACKENDS4",
    "BACKENDS6",
    "RANGES4",
    "RANGES6",
    "MAGLEV4",
    "MAGLEV6",
    "DEVICES",
    "OPT_OUT",
    "NAMES",
    "STATUS",
];

/// Names in a folder, in order.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Sets of backends by their addresses; a set with an id that is no backend of the Service says so.
fn service(row: &Value) -> Value {
    let backends: BTreeMap<u64, String> = row["backends"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|backend| {
            let what = format!("{} {} {}", backend["address"], backend["flags"], backend["weight"]);
            (backend["id"].as_u64().unwrap_or(0), what)
        })
        .collect();
    let set = |ids: &Value| {
        let member = |id: &Value| match id.as_u64().and_then(|id| backends.get(&id)) {
            Some(backend) => backend.clone(),
            None => format!("id {id} of another Service"),
        };
        let mut set: Vec<String> = ids.as_array().into_iter().flatten().map(member).collect();
        set.sort();
        set
    };
    let mut frontends: Vec<String> = row["frontends"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|frontend| {
            let (internal, external) = (set(&frontend["internal"]), set(&frontend["external"]));
            let word = |name: &str| frontend[name].to_string();
            let words = ["address", "port", "kind", "policy", "flags"].map(word).join(" ");
            format!("{words} {internal:?} {external:?}")
        })
        .collect();
    frontends.sort();
    let mut backends: Vec<String> = backends.into_values().collect();
    backends.sort();
    let name =
        ["service", "port", "protocol", "family", "affinity_secs", "algorithm"].map(|name| row[name].to_string());
    json!({"name": name.join(" "), "frontends": frontends, "backends": backends, "ranges": row["source_ranges"],
        "refusals": row["refusals"]})
}

/// Maps, links, pins and the agent's own report.
pub(crate) fn of(agent: &Agent) -> Result<Value> {
    let mut services: Vec<Value> = agent.json(&["services"])?.as_array().into_iter().flatten().map(service).collect();
    services.sort_by_key(|row| row["name"].to_string());
    let status = agent.json(&["status"])?;
    let rows = status["maps"].as_array().into_iter().flatten();
    let used = rows.filter(|row| row["map"].as_str().is_some_and(|map| EXACT.contains(&map)));
    let maps: BTreeMap<String, Value> = used.map(|row| (row["map"].to_string(), row["used"].clone())).collect();
    let report = &status["report"];
    let devices: Vec<Value> = report["attach"]["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|device| json!([device["name"], device["role"], device["hooks"], device["errors"], device["notes"]]))
        .collect();
    let root = agent.pin_path();
    Ok(json!({
        "services": services,
        "maps": maps,
        "pins": {"": names(root), "links": names(&root.join("links")), "sockets": names(&root.join("sockets")),
            "maps": names(&root.join("maps"))},
        "devices": devices,
        "sockets": [report["sockets"]["hooks"], report["sockets"]["errors"]],
        "refusals": report["refusals"],
    }))
}

/// In what two truths differ, for people.
pub(crate) fn difference(found: &Value, wanted: &Value) -> String {
    let mut lines = Vec::new();
    compare("", found, wanted, &mut lines);
    lines.join("\n")
}

fn compare(at: &str, found: &Value, wanted: &Value, lines: &mut Vec<String>) {
    match (found, wanted) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                compare(&format!("{at}/{key}"), &found[key], &wanted[key], lines);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            lines.extend(one.iter().filter(|row| !other.contains(row)).map(|row| format!("{at}: too much: {row}")));
            lines.extend(other.iter().filter(|row| !one.contains(row)).map(|row| format!("{at}: missing: {row}")));
        }
        _ if found != wanted => lines.push(format!("{at}: {found} instead of {wanted}")),
        _ => {}
    }
}
