//! `-l`: label selectors as kubectl has them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A selector: all of its requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Selector {
    text: String,
    all: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            |part: &str| format!("\"{part}\" is no requirement such as app=web, app!=web, app in (a,b), app or !app");
        let all = parts(text)
            .into_iter()
            .map(|part| requirement(part).ok_or_else(|| wrong(part)))
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), all })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Between commas, but for those in brackets.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let comma = move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    text.split(comma).map(str::trim).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let is_key = |key: &str| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
    };
    let key = |key: &str| is_key(key.trim()).then(|| key.trim().to_owned());
    if let Some((name, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((head, list)) = part.split_once('(') {
        let values = list.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(Requirement::In(key(name)?, values)),
            "notin" => Some(Requirement::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Missing(key(name)?)),
        None => Some(Requirement::Exists(key(part)?)),
    }
}

impl Selector {
    /// Whether an object with these labels is meant.
    pub(in crate::cli) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.all.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Missing(key) => !labels.contains_key(key),
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_kubectls() {
        let labels = BTreeMap::from([("app", "web"), ("tier", "front")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        for (text, is) in [
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=web,tier=back", false),
            ("app!=db", true),
            ("none!=x", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("app", true),
            ("!app", false),
            ("!none,app in (web)", true),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().selects(&labels), is, "{text}");
        }
        for wrong in ["", "a b", "=x", "app in web", "app like (x)", "a,,b"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }
}
