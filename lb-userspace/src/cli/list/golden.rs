//! What the sub-commands print at 80, 120 and 200 columns, and in the other forms, as files in `lb-userspace/golden/cli`.
//! `SLUICE_BLESS=1 cargo test -p lb-userspace --lib golden` writes them.

use std::path::Path;

use super::form::Form;
use super::grid::{Grid, Width};
use super::print::{FormArgs, Listed};

/// Compares with `NAME.txt`.
pub(in crate::cli) fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cli").join(format!("{name}.txt"));
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "{}: if this is wanted, SLUICE_BLESS=1 writes it", path.display());
}

/// A list at all widths and in all forms.
pub(in crate::cli) fn list<R: Listed>(name: &str, rows: &[R], grid: impl Fn(&[R]) -> Grid) {
    let print = |form: &str, width| {
        let args = FormArgs { output: form.parse().unwrap(), ..FormArgs::default() };
        args.text(rows, &grid, width, true).unwrap()
    };
    for columns in [80, 120, 200] {
        let text = print("table", Width::Columns(columns));
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= columns, "{name}: {longest} of {columns} columns:\n{text}");
        compare(&format!("{name}.{columns}"), &text);
    }
    compare(&format!("{name}.wide"), &print("wide", Width::Wide));
    compare(&format!("{name}.name"), &print("name", Width::Unlimited));
    compare(&format!("{name}.json"), &print("json", Width::Unlimited));
    assert!(matches!("json".parse(), Ok(Form::Json)));
}

/// A document shows this output, indented as Markdown has it.
#[track_caller]
pub(in crate::cli) fn assert_documented(document: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let all = std::fs::read_to_string(&path).unwrap();
    let shown: String = text.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    assert!(all.contains(&shown), "{document} should show:\n{shown}");
}
