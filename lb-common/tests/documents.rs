//! The documents' tables of maps say what the catalogue says. `SLUICE_BLESS=1 cargo test -p lb-common --test documents`
//! writes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use std::fmt::Write;
use std::path::PathBuf;

use lb_common::abi::table::{Size, Table};
use lb_common::abi::tables;

/// 131,072.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes per entry.
fn amount(bytes: u64) -> String {
    format!("{} KiB", bytes >> 10)
}

/// Entries of a table's maps.
fn size(size: Size) -> String {
    match size {
        Size::Fixed(entries) | Size::Constant(entries) => grouped(entries),
        Size::Each(_, thing) => format!("one per {thing}"),
        Size::ByNode { large, small } => format!("{} / {}", grouped(large), grouped(small)),
        Size::PerMemory { bytes, low, high } => {
            format!("one per {} of memory, {} to {}", amount(bytes), grouped(low), grouped(high))
        }
        Size::As(other) | Size::UpTo(other) => format!("as many as `{other}`"),
    }
}

fn maps() -> String {
    let mut text = "| map | type | key → value | written by | read by | default entries | a miss means |\n".to_owned();
    text += "|---|---|---|---|---|---|---|\n";
    for table in tables::all() {
        let Table { maps, kind, holds, writer, readers, miss, .. } = table;
        let one = if maps.len() == 1 { " (one)" } else { "" };
        let (name, kind, entries) = (table.name(), kind.name(), size(table.size));
        let miss = if miss.is_empty() { String::new() } else { format!("{miss} ") };
        writeln!(text, "| `{name}`{one} | {kind} | {holds} | {writer} | {readers} | {entries} | {miss}|").unwrap();
    }
    text
}

fn sizes() -> String {
    let mut text =
        "| flag | counts | default with at least 4 GiB / less | when it is full |\n|---|---|---|---|\n".to_owned();
    for table in tables::all() {
        let Some(flag) = table.flag else { continue };
        let bytes = match (table.size, table.maps) {
            (Size::UpTo(_), [map, ..]) => format!(". {} bytes each", map.value),
            _ => String::new(),
        };
        let (name, counts, entries, full) = (flag.name, flag.counts, size(table.size), flag.full);
        writeln!(text, "| `{name}` | {counts}{bytes} | {entries} | {full} |").unwrap();
    }
    text
}

fn flags() -> String {
    let names: Vec<String> = tables::all().filter_map(|table| Some(format!("`{}`", table.flag?.name))).collect();
    names.join(", ")
}

/// What stands between the markers of a document is `wanted`, or is made so.
fn check(document: &str, marker: &str, wanted: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {marker} -->"), format!("<!-- end of {marker} -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, (found, after)) = parts.unwrap_or_else(|| panic!("{document} has no {begin} ... {end}"));
    if std::env::var_os("SLUICE_BLESS").is_some() {
        return std::fs::write(&path, [before, &begin, wanted, &end, after].concat()).unwrap();
    }
    assert_eq!(found, wanted, "{document}, {marker}: SLUICE_BLESS=1 cargo test -p lb-common --test documents");
}

#[test]
fn architecture_lists_every_map_as_the_catalogue_has_it() {
    check("ARCHITECTURE.md", "maps", &format!("\n{}", maps()));
}

#[test]
fn operations_lists_every_size_as_the_catalogue_has_it() {
    check("docs/operations.md", "sizes", &format!("\n{}", sizes()));
}

#[test]
fn the_readme_names_every_flag_for_a_size() {
    check("README.md", "size flags", &flags());
}

#[test]
fn a_number_is_written_in_groups_of_three_digits() {
    assert_eq!((grouped(1), grouped(1_024), grouped(1 << 20)), ("1".into(), "1,024".into(), "1,048,576".into()));
}
