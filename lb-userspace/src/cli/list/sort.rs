//! `--sort-by`: a column's head, or a path of the JSON; with `-` before it the largest first.

use std::cmp::Ordering;

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;

/// Sorts rows. `heads`: which path a column's head stands for.
pub(super) fn sort<R: Serialize>(rows: &mut Vec<R>, by: &str, heads: &[(&str, &str)]) -> anyhow::Result<()> {
    let (by, falling) = match by.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (by, false),
    };
    let head = heads.iter().find(|(head, _)| head.eq_ignore_ascii_case(by)).map(|(_, path)| *path);
    let path = head.unwrap_or_else(|| by.trim_start_matches('{').trim_end_matches('}').trim_start_matches('.'));
    let mut keyed: Vec<(Value, R)> = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        keyed.push((field(&serde_json::to_value(&row)?, path), row));
    }
    if head.is_none() && !keyed.is_empty() && keyed.iter().all(|(key, _)| key.is_null()) {
        let names: Vec<String> = heads.iter().map(|(head, _)| head.to_lowercase()).collect();
        bail!("--sort-by {by}: no row has that; columns: {}, or a path such as .traffic.bytes", names.join(", "));
    }
    keyed.sort_by(|(a, _), (b, _)| if falling { compare(b, a) } else { compare(a, b) });
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

/// The value at `a.b.0.c`.
fn field(value: &Value, path: &str) -> Value {
    let step = |value: &Value, part: &str| match value {
        Value::Array(list) => part.parse::<usize>().ok().and_then(|at| list.get(at)).cloned(),
        other => other.get(part).cloned(),
    };
    let mut parts = path.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.try_fold(value.clone(), |value, part| step(&value, part)).unwrap_or_default()
}

/// Numbers by size, everything else as text; what is missing first.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (a, b) => a.to_string().cmp(&b.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_and_paths_sort_numbers_as_numbers() {
        let rows = || vec![json!({"n": "b", "t": {"c": 10}}), json!({"n": "a", "t": {"c": 9}}), json!({"n": "c"})];
        let sorted = |by: &str| -> String {
            let mut rows = rows();
            sort(&mut rows, by, &[("NAME", "n"), ("COUNT", "t.c")]).unwrap();
            rows.iter().map(|row| row["n"].as_str().unwrap()).collect()
        };
        assert_eq!(["name", "COUNT", "{.t.c}", "-.t.c"].map(sorted), ["abc", "cab", "cab", "bac"]);
        let error = sort(&mut rows(), "nope", &[("NAME", "n")]).unwrap_err().to_string();
        assert!(error.contains("nope") && error.contains("name"), "{error}");
    }
}
