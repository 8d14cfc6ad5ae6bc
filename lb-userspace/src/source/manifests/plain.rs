//! Plain YAML to JSON: the way almost all manifests are written, some twenty times faster than a YAML reader takes for
//! them.
//!
//! Block mappings and sequences, plain and simply quoted scalars on one line. Anything else (anchors, tags, block
//! scalars, comments behind values, other spellings of numbers and booleans, ...) is left to the YAML
//! reader: [`to_json`] gives an answer only where there is no doubt.

/// Nesting that real objects do not reach.
const DEPTH: u8 = 24;

/// The same document as JSON; none when it is not plain.
pub(super) fn to_json(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return None;
    }
    let line = |line: &'_ str| -> Option<(usize, usize)> {
        let content = line.trim_start_matches(' ');
        (!content.is_empty() && !content.starts_with('#')).then(|| (line.len() - content.len(), content.len()))
    };
    let lines: Vec<(usize, &str)> = text
        .lines()
        .filter_map(|text| line(text).and_then(|(indent, _)| Some((indent, text.get(indent..)?.trim_end_matches(' ')))))
        .collect();
    let mut writer = Writer { lines, at: 0, out: String::with_capacity(text.len()) };
    writer.node(DEPTH)?;
    (writer.at == writer.lines.len()).then_some(writer.out)
}

struct Writer<'a> {
    /// Indent and content.
    lines: Vec<(usize, &'a str)>,
    at: usize,
    out: String,
}

impl<'a> Writer<'a> {
    fn line(&self) -> Option<(usize, &'a str)> {
        self.lines.get(self.at).copied()
    }

    fn node(&mut self, depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let (indent, text) = self.line()?;
        if item(text).is_some() { self.sequence(indent, depth) } else { self.mapping(indent, depth) }
    }

    fn mapping(&mut self, indent: usize, depth: u8) -> Option<()> {
        let mut keys: Vec<&str> = Vec::with_capacity(8);
        self.out.push('{');
        while let Some((_, text)) = self.line().filter(|(column, text)| *column == indent && item(text).is_none()) {
            let (key, value) = entry(text)?;
            if keys.contains(&key) {
                return None;
            }
            self.out.push_str(if keys.is_empty() { "\"" } else { ",\"" });
            keys.push(key);
            self.out.push_str(key);
            self.out.push_str("\":");
            self.at += 1;
            match self.line() {
                Some((column, _)) if value.is_empty() && column > indent => self.node(depth)?,
                Some((column, next)) if value.is_empty() && column == indent && item(next).is_some() => {
                    self.sequence(indent, depth.checked_sub(1)?)?;
                }
                // A deeper line would go on with this value.
                Some((column, _)) if column > indent => return None,
                _ => self.scalar(value)?,
            }
        }
        self.out.push('}');
        (!keys.is_empty()).then_some(())
    }

    fn sequence(&mut self, indent: usize, depth: u8) -> Option<()> {
        let mut first = true;
        self.out.push('[');
        while let Some((_, text)) = self.line().filter(|(column, _)| *column == indent) {
            let Some(rest) = item(text) else { break };
            if !std::mem::take(&mut first) {
                self.out.push(',');
            }
            if item(rest).is_some() {
                return None;
            }
            if entry(rest).is_some() {
                *self.lines.get_mut(self.at)? = (indent + text.len() - rest.len(), rest);
                self.node(depth)?;
            } else {
                self.at += 1;
                let deeper = self.line().is_some_and(|(column, _)| column > indent);
                match (rest.is_empty(), deeper) {
                    (true, true) => self.node(depth)?,
                    (false, true) => return None,
                    (_, false) => self.scalar(rest)?,
                }
            }
        }
        self.out.push(']');
        // What is neither an item nor further out does not belong here.
        self.line().is_none_or(|(column, _)| column <= indent).then_some(())
    }

    fn scalar(&mut self, text: &str) -> Option<()> {
        match text {
            "" => self.out.push_str("null"),
            "true" | "false" | "null" | "{}" | "[]" => self.out.push_str(text),
            _ => {
                if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                    return self.flow(inner);
                }
                let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
                if let Some(inner) = quoted('"').or_else(|| quoted('\'')) {
                    if inner.contains(['"', '\'', '\\']) {
                        return None;
                    }
                    self.string(inner);
                } else if is_integer(text) {
                    self.out.push_str(text);
                } else if is_word(text) {
                    self.string(text);
                } else {
                    return None;
                }
            }
        }
        Some(())
    }

    /// A sequence of words in one line, such as `[IPv4, IPv6]`.
    fn flow(&mut self, inner: &str) -> Option<()> {
        self.out.push('[');
        for (index, word) in inner.split(',').enumerate() {
            let word = word.trim_matches(' ');
            if index > 0 {
                self.out.push(',');
            }
            if word.is_empty() || word.starts_with(['[', '"', '\'']) || word.contains(':') {
                return None;
            }
            self.scalar(word)?;
        }
        self.out.push(']');
        Some(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }
}

/// What follows the dash of a sequence's item.
fn item(text: &str) -> Option<&str> {
    if text == "-" { Some("") } else { text.strip_prefix("- ").map(|rest| rest.trim_start_matches(' ')) }
}

/// Key and value of a line of a mapping.
fn entry(text: &str) -> Option<(&str, &str)> {
    let (key, value) = match text.split_once(": ") {
        Some((key, value)) => (key, value.trim_start_matches(' ')),
        None => (text.strip_suffix(':')?, ""),
    };
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
    let begins = key.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    (begins && key.bytes().all(sound)).then_some((key, value))
}

/// An integer in the one spelling that everybody reads alike.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let sound = !digits.is_empty() && digits.len() < 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    sound && (digits == "0" && text == "0" || !digits.starts_with('0'))
}

/// A plain scalar that everybody reads as a string.
fn is_word(text: &str) -> bool {
    let Some(first) = text.bytes().next() else { return false };
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-' | b':');
    if !text.bytes().all(sound) || text.ends_with(':') {
        return false;
    }
    if first.is_ascii_digit() {
        // Addresses, ranges and times; anything shorter of this kind might be a number to someone.
        let dots = text.bytes().filter(|byte| *byte == b'.').count();
        return dots >= 3 || text.contains("::") || (text.contains('T') && text.ends_with('Z'));
    }
    let other_spelling = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    first.is_ascii_alphabetic() && !other_spelling.iter().any(|word| text.eq_ignore_ascii_case(word))
        || text.starts_with("::") && text.len() > 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_slice_as_people_write_it_is_plain() {
        let text = "# c\nkind: EndpointSlice\nmetadata:\n  name: a-1\n  labels: {}\nports:\n- name: \"\"\n  port: 8080\n\
            endpoints:\n  - addresses: [10.0.0.1]\n    conditions:\n      ready: true\n  - addresses:\n    - 'fd00::1'\n";
        assert_eq!(
            serde_json::from_str::<Value>(&to_json(text).unwrap()).unwrap(),
            json!({
                "kind": "EndpointSlice", "metadata": {"name": "a-1", "labels": {}},
                "ports": [{"name": "", "port": 8080}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}, {"addresses": ["fd00::1"]}]
            })
        );
    }

    #[test]
    fn what_is_in_doubt_is_not_plain() {
        for text in [
            "a: &x 1",
            "a: *x",
            "a: !t b",
            "a: |\n  b",
            "a: b # c",
            "a: b\n  c",
            "a: yes",
            "a: 0x1",
            "a: 012",
            "a: 1.5",
            "a: 1_000",
            "a: ~",
            "a: b\na: c",
            "\"a\": b",
            "a: {b: c}",
            "- - a",
            "a:\tb",
            "a: b: c",
            "a: \"\\n\"",
            "? a",
            "a",
            "a: -0",
            "a: [b, [c]]",
            "a:\n    b: c\n  d: e",
            "<<: a",
            "a: @b",
            "a: 'it''s'",
            "a: \u{e9}",
        ] {
            assert_eq!(to_json(text), None, "{text}");
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let indent = prop::sample::select(vec!["", "", "  ", "  ", "    ", " "]);
        let dash = prop::sample::select(vec!["", "", "", "- ", "-   "]);
        let key = prop::sample::select(vec!["a: ", "b: ", "c:", "d:", "e:  ", "", "f:"]);
        let value = prop::sample::select(vec![
            "",
            "",
            "1",
            "-7",
            "0",
            "true",
            "null",
            "word",
            "10.0.0.1",
            "10.0.0.0/8",
            "fd00::1",
            "::1",
            "::",
            "\"q\"",
            "'q'",
            "\"\"",
            "{}",
            "[]",
            "[x, 1]",
            "[]x",
            "-",
            "1:30",
            "1e5",
            "0.1",
            "012",
            "no",
            "x y",
            "# c",
            "a:b",
            "a-b:",
            "'",
            "2026-01-01T00:00:00Z",
            "1.2.3.4.5",
            "9.9.9.9e9",
            "0x1.2.3.4",
            "[a,]",
            "[1 2]",
            ".5",
            "1.",
            "[a b]",
            "\"a\" \"b\"",
        ]);
        (indent, dash, key, value).prop_map(|(indent, dash, key, value)| format!("{indent}{dash}{key}{value}\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_plain_says_the_same_to_the_yaml_reader(lines in prop::collection::vec(line(), 1..6)) {
            let text: String = lines.concat();
            if let Some(json) = to_json(&text) {
                let plain: Value = serde_json::from_str(&json).map_err(|error| TestCaseError::fail(format!("{json}: {error}")))?;
                let options = serde_saphyr::options! { with_snippet: false };
                match serde_saphyr::from_str_with_options::<Value>(&text, options) {
                    Ok(yaml) => prop_assert_eq!(plain, yaml, "{}", text),
                    Err(error) => prop_assert!(false, "{text}\n{json}\n{error}"),
                }
            }
        }
    }
}
