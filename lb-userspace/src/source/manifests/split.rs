//! Cuts a file into documents, and lists into their items, without parsing: each piece is read, and may fail, alone.

/// One document, or one item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Line of the file on which it begins, from 1.
    pub(super) line: usize,
    /// Its text. An item of a YAML list keeps its dash: a sequence of one.
    pub(super) text: &'a str,
    /// How the text is written.
    pub(super) form: Form,
    /// Kind of items of the list that it is in, where the list says so (`ServiceList`).
    pub(super) item_kind: Option<&'a str>,
}

/// How a piece is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A YAML document.
    Yaml,
    /// An item of a block sequence, with its dash.
    YamlItem,
    /// A JSON document or item.
    Json,
}

/// Cuts a file. Comments and empty documents yield no piece.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (line, document) in documents(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        if document.trim_start().starts_with(['{', '[']) {
            json_pieces(line, document, &mut pieces);
        } else {
            yaml_pieces(line, document, &mut pieces);
        }
    }
    pieces
}

/// Documents with their first line. A line that begins with `---` or `...` cannot occur inside of one, in no style of
/// scalar (YAML 1.2, 9.1.4).
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = |mark: &str| {
            line.strip_prefix(mark).is_some_and(|rest| rest.trim_start().len() != rest.len() || rest.is_empty())
        };
        if marker("---") || marker("...") {
            documents.push((start_line, text.get(start..at).unwrap_or_default()));
            start = at + 3;
            start_line = index + 1;
        }
        at += line.len();
    }
    documents.push((start_line, text.get(start..).unwrap_or_default()));
    documents.retain(|(_, document)| document.lines().any(|line| !is_void(line) && !line.starts_with('%')));
    documents
}

/// Empty, or only a comment.
fn is_void(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn yaml_pieces<'a>(line: usize, document: &'a str, pieces: &mut Vec<Piece<'a>>) {
    let whole = Piece { line, text: document, form: Form::Yaml, item_kind: None };
    let Some(list_kind) = top_level(document, "kind").filter(|kind| kind.ends_with("List")) else {
        pieces.push(whole);
        return;
    };
    let item_kind = list_kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    let (mut at, mut in_items, mut dash) = (0, false, None);
    let mut open: Option<(usize, usize)> = None;
    let mut found = Vec::new();
    for (index, text) in document.split_inclusive('\n').enumerate() {
        let here = at;
        at += text.len();
        if is_void(text) {
            continue;
        }
        let column = indent(text);
        let dashed =
            text.trim_start_matches(' ').strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\n', '\r']));
        let ends = in_items && (dash.is_none_or(|dash| column <= dash));
        if ends && let Some((line, start)) = open.take() {
            found.push((line, document.get(start..here).unwrap_or_default()));
        }
        if ends && dashed && dash.is_none_or(|dash| dash == column) {
            dash = Some(column);
            open = Some((line + index, here));
        } else if ends {
            in_items = false;
        }
        if column == 0
            && let Some(rest) = text.strip_prefix("items:")
        {
            if !is_void(rest) && rest.trim() != "[]" {
                // Items in flow style: rare, and then read as one piece, which will be refused.
                pieces.push(whole);
                return;
            }
            in_items = true;
            dash = None;
        }
    }
    if let Some((line, start)) = open {
        found.push((line, document.get(start..).unwrap_or_default()));
    }
    pieces.extend(found.into_iter().map(|(line, text)| Piece { line, text, form: Form::YamlItem, item_kind }));
}

/// The value of a plain top-level key of a block mapping, or of the mapping in a sequence of one.
pub(super) fn top_level<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut base = None;
    for line in text.lines().filter(|line| !is_void(line)) {
        let mut column = indent(line);
        let mut rest = line.trim_start_matches(' ');
        if base.is_none() {
            while let Some(inner) = rest.strip_prefix("- ") {
                let trimmed = inner.trim_start_matches(' ');
                column += rest.len() - trimmed.len();
                rest = trimmed;
            }
        }
        if column != *base.get_or_insert(column) {
            continue;
        }
        let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
        let Some(value) = rest.strip_prefix(key) else { continue };
        let value = value.strip_prefix(['"', '\'']).unwrap_or(value);
        let Some(value) = value.trim_start().strip_prefix(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default();
        return Some(value.trim().trim_matches(['"', '\'']));
    }
    None
}

fn json_pieces<'a>(line: usize, document: &'a str, pieces: &mut Vec<Piece<'a>>) {
    use serde_json::value::RawValue;

    #[derive(serde::Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        kind: Option<std::borrow::Cow<'a, str>>,
        #[serde(borrow)]
        items: Option<Vec<&'a RawValue>>,
    }

    let line_of = |part: &str| {
        // `part` lies in `document`.
        let offset = (part.as_ptr() as usize).saturating_sub(document.as_ptr() as usize);
        line + document.get(..offset).unwrap_or_default().bytes().filter(|byte| *byte == b'\n').count()
    };
    let mut rest = 0;
    let mut stream = serde_json::Deserializer::from_str(document).into_iter::<&RawValue>();
    while let Some(Ok(value)) = stream.next() {
        rest = stream.byte_offset();
        let text = value.get();
        let base = line_of(text);
        match serde_json::from_str::<List<'a>>(text) {
            Ok(List { kind: Some(kind), items: Some(items) }) if kind.ends_with("List") => {
                let item_kind = match &*kind {
                    "ServiceList" => Some("Service"),
                    "EndpointSliceList" => Some("EndpointSlice"),
                    "NodeList" => Some("Node"),
                    "PodList" => Some("Pod"),
                    _ => None,
                };
                let (mut counted, mut item_line) = (text, base);
                for item in items {
                    let item = item.get();
                    let gap = (item.as_ptr() as usize).saturating_sub(counted.as_ptr() as usize);
                    item_line += counted.get(..gap).unwrap_or_default().bytes().filter(|byte| *byte == b'\n').count();
                    counted = counted.get(gap..).unwrap_or_default();
                    pieces.push(Piece { line: item_line, text: item, form: Form::Json, item_kind });
                }
            }
            _ => pieces.push(Piece { line: base, text, form: Form::Json, item_kind: None }),
        }
    }
    let left = document.get(rest..).unwrap_or_default();
    if !left.trim().is_empty() {
        // Not JSON after all, or cut off: YAML in flow style has the same looks, and its reader says what is wrong.
        let left = left.trim_start();
        pieces.push(Piece { line: line_of(left), text: left, form: Form::Yaml, item_kind: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(usize, &str)> {
        pieces(text).into_iter().map(|piece| (piece.line, piece.text.trim())).collect()
    }

    #[test]
    fn documents_are_cut_at_markers_only() {
        let text = "# c\n---\nkind: A\nnote: |\n  ---\n  x\n---\n# empty\n--- \nkind: B\n...\n";
        assert_eq!(cut(text), [(2, "kind: A\nnote: |\n  ---\n  x"), (9, "kind: B")]);
    }

    #[test]
    fn list_items_are_pieces_whatever_their_indent() {
        let flat = "apiVersion: v1\nitems:\n- kind: A\n  x:\n  - 1\n- kind: B\nkind: List\nmetadata: {}\n";
        assert_eq!(cut(flat), [(3, "- kind: A\n  x:\n  - 1"), (6, "- kind: B")]);
        let deep = "kind: List\nitems:\n  - kind: A\n    x: 1\n\n  # c\n  - kind: B\n";
        let deep = cut(deep);
        assert_eq!(deep.len(), 2);
        assert_eq!(deep[1], (7, "- kind: B"));
    }

    #[test]
    fn typed_lists_lend_their_kind_to_items() {
        let yaml = pieces("kind: ServiceList\nitems:\n- metadata:\n    name: a\n");
        assert_eq!(yaml[0].item_kind, Some("Service"));
        let json = pieces("{\"kind\": \"ServiceList\",\n \"items\": [{\"a\": 1},\n {\"b\": 2}]}");
        assert_eq!(
            json.iter().map(|p| (p.line, p.item_kind)).collect::<Vec<_>>(),
            [(2, Some("Service")), (3, Some("Service"))]
        );
    }

    #[test]
    fn an_empty_list_has_no_pieces() {
        assert_eq!(cut("kind: List\nitems: []\n"), []);
    }

    #[test]
    fn a_truncated_json_file_is_still_a_piece() {
        assert_eq!(cut("{\"kind\": \"Service\", \"metad").len(), 1);
    }

    #[test]
    fn the_kind_is_found_at_the_top_only() {
        assert_eq!(top_level("metadata:\n  kind: X\nkind: 'Y' # c\n", "kind"), Some("Y"));
        assert_eq!(top_level("  - metadata:\n      kind: X\n    kind: Y\n", "kind"), Some("Y"));
        assert_eq!(top_level("kinds: Y\n", "kind"), None);
    }
}
