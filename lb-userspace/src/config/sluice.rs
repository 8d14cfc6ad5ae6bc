//! Sluice's own kind of configuration: every flag of `sluice run`, in camelCase.

use serde_json::Value;

use super::document::{leaves, texts};
use super::findings::Loaded;

/// `apiVersion`.
pub(super) const API_VERSION: &str = "config.sluice-lb.io/v1alpha1";
/// `kind`.
pub(super) const KIND: &str = "SluiceConfiguration";

pub(super) fn read(document: &Value, known: &dyn Fn(&str) -> bool, loaded: &mut Loaded) {
    for (field, value) in leaves(document) {
        let flag = kebab(&field);
        let written = texts(&value).join(",");
        if flag == "config" || !known(&flag) {
            loaded.refuse(&field, &written, "there is no such setting: `sluice run --help` has them all");
            continue;
        }
        match value {
            // Not a switch: off is not its default.
            Value::Bool(_) if flag == "external-ips" => loaded.take(&field, &written, &flag, texts(&value)),
            Value::Bool(false) => loaded.pass_over(&field, &written, "off is the default of every switch"),
            Value::Bool(true) => loaded.take(&field, &written, &flag, Vec::new()),
            value => loaded.take(&field, &written, &flag, texts(&value)),
        }
    }
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
