//! A document of a configuration file as fields with values.

use serde_json::Value;

/// Fields with a value, by path; lists are values. What is empty is not set.
pub(super) fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    walk(String::new(), value, &mut found);
    found.retain(|(path, _)| path != "apiVersion" && path != "kind");
    found
}

fn walk(path: String, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(path, value, found);
            }
        }
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Array(items) if items.is_empty() => {}
        _ => found.push((path, value.clone())),
    }
}

/// A value, or each of a list, as text.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}
