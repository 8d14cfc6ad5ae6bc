//! Sluice's own kind of configuration: every flag of `sluice run`, in camelCase.

use serde_json::Value;

use super::document::{leaves, texts};
use super::findings::{Known, Loaded, Takes};

/// `apiVersion`.
pub(super) const API_VERSION: &str = "config.sluice-lb.io/v1alpha1";
/// `kind`.
pub(super) const KIND: &str = "SluiceConfiguration";

pub(super) fn read(document: &Value, known: Known<'_>, loaded: &mut Loaded) {
    for (field, value) in leaves(document) {
        let flag = kebab(&field);
        let written = texts(&value).join(",");
        let Some(takes) = known(&flag).filter(|_| flag != "config") else {
            loaded.refuse(&field, &written, "there is no such setting: `sluice run --help` has them all");
            continue;
        };
        match value {
            // Off is not its default.
            Value::Bool(_) if takes == Takes::Perhaps => loaded.take(&field, &written, &flag, texts(&value)),
            ref value if takes == Takes::Value && holds_boolean(value) => {
                loaded.refuse(
                    &field,
                    &written,
                    "a value is expected, not true or false; put it in quotes if it is text",
                );
            }
            Value::Bool(false) => loaded.pass_over(&field, &written, "off is the default of every switch"),
            Value::Bool(true) => loaded.take(&field, &written, &flag, Vec::new()),
            value => loaded.take(&field, &written, &flag, texts(&value)),
        }
    }
}

fn holds_boolean(value: &Value) -> bool {
    value.is_boolean() || value.as_array().is_some_and(|items| items.iter().any(Value::is_boolean))
}

fn kebab(camel: &str) -> String {
    let mut kebab = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}
