//! `-o jsonpath=TEMPLATE` as kubectl has it: text, `{PATH}`, `{"text"}` and `{range PATH}...{end}`. The paths are those of
//! RFC 9535, with or without `$`; a list's rows are `.items`.

use std::str::FromStr;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::{QueryRef, js_path_process};
use serde_json::Value;

/// A template.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Path(JpQuery),
    Range(JpQuery, Vec<Part>),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // kubectl takes a path without braces, too.
        if !text.contains('{') && !text.is_empty() {
            return Ok(Self(vec![Part::Path(path(text)?)]));
        }
        let mut rest = text;
        let parts = parts(&mut rest, false)?;
        Ok(Self(parts))
    }
}

/// The parts up to the end, or up to `{end}`.
fn parts(rest: &mut &str, in_range: bool) -> Result<Vec<Part>, String> {
    let mut found = Vec::new();
    while let Some((text, behind)) = rest.split_once('{') {
        if !text.is_empty() {
            found.push(Part::Text(text.to_owned()));
        }
        let end = closing(behind).ok_or("a `{` is not closed")?;
        let inner = behind[..end].trim();
        *rest = &behind[end + 1..];
        match inner.split_once(char::is_whitespace) {
            _ if inner == "end" && in_range => return Ok(found),
            _ if inner == "end" => return Err("`{end}` without `{range}`".to_owned()),
            Some(("range", over)) => found.push(Part::Range(path(over.trim())?, parts(rest, true)?)),
            _ => match quoted(inner) {
                Some(text) => found.push(Part::Text(text)),
                None => found.push(Part::Path(path(inner)?)),
            },
        }
    }
    if in_range {
        return Err("`{range}` without `{end}`".to_owned());
    }
    if !rest.is_empty() {
        found.push(Part::Text((*rest).to_owned()));
        *rest = "";
    }
    Ok(found)
}

/// Where the brace that is open is closed; one within quotes does not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, '}') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

/// Text in quotes, with `\n` and `\t`.
fn quoted(text: &str) -> Option<String> {
    let inner = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
    Some(inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\""))
}

fn path(text: &str) -> Result<JpQuery, String> {
    let full = match text.chars().next() {
        Some('$') => text.to_owned(),
        Some('.' | '[') => format!("${text}"),
        Some('@') => format!("${}", &text[1..]),
        _ => format!("$.{text}"),
    };
    let full = if full == "$." { "$".to_owned() } else { full };
    parse_json_path(&full).map_err(|error| format!("path {text}: {error}"))
}

impl Template {
    /// What the template makes of a list.
    pub(in crate::cli) fn print(&self, value: Value) -> String {
        let value = match value {
            list @ Value::Array(_) => serde_json::json!({ "items": list }),
            other => other,
        };
        let mut text = String::new();
        write(&self.0, &value, &mut text);
        text
    }
}

fn write(parts: &[Part], value: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(words) => text.push_str(words),
            Part::Path(path) => {
                let found: Vec<String> = found(path, value).map(plain).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, parts) => {
                for found in found(path, value) {
                    write(parts, found, text);
                }
            }
        }
    }
}

/// What is at a path; nothing where it leads nowhere.
fn found<'a>(path: &JpQuery, value: &'a Value) -> impl Iterator<Item = &'a Value> {
    js_path_process(path, value).unwrap_or_default().into_iter().map(QueryRef::val)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn print(template: &str) -> Result<String, String> {
        let rows = json!([{"service": "shop/web", "id": 7, "frontends": [{"port": 80}, {"port": 443}]},
            {"service": "shop/db", "id": 9, "frontends": []}]);
        Ok(template.parse::<Template>()?.print(rows))
    }

    #[test]
    fn templates_are_kubectls() {
        assert_eq!(print("{.items[*].service}").unwrap(), "shop/web shop/db");
        assert_eq!(print(".items[0].id").unwrap(), "7");
        assert_eq!(
            print("{range .items[*]}{.service}{\"\\t\"}{.frontends[*].port}{\"\\n\"}{end}").unwrap(),
            "shop/web\t80 443\nshop/db\t\n"
        );
        assert_eq!(print("{.items[?(@.id == 9)].service}!").unwrap(), "shop/db!");
        assert_eq!(print("{$.items[-1].service}").unwrap(), "shop/db");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        for (template, word) in
            [("{.items[", "not closed"), ("{range .items[*]}x", "{end}"), ("{end}", "{range}"), ("{.items[}", "path")]
        {
            let error = print(template).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
    }
}
