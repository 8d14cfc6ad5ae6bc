//! How long files and functions may be, and how files begin.

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

use super::debts::Finding;
use super::files::TextFile;

/// Lines of a file.
const MOST_LINES: usize = 400;
/// Lines of the two adapters of the pipeline.
const MOST_ADAPTER_LINES: usize = 150;
/// Lines of a function of the data path, its signature included.
const MOST_FUNCTION_LINES: usize = 60;

/// Files that hand packets to the pipeline.
const ADAPTERS: [&str; 2] = ["lb-ebpf/src/tc.rs", "lb-ebpf/src/xdp.rs"];
/// Where the data path is.
const DATA_PATH: [&str; 3] = ["lb-common/src/datapath/", "lb-common/src/wire/", "lb-ebpf/src/"];
/// What is next to it and is not part of it.
const NOT_DATA_PATH: &str = "lb-ebpf/src/bench/";

/// Checks one file.
pub(super) fn check(file: &TextFile) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//!") {
        let text = format!("{}: the first line is not `//!` and the file's one job", file.path);
        findings.push(Finding::new("first_line", file.area(), text));
    }
    let lines = file.text.lines().count();
    let (rule, most) = if ADAPTERS.contains(&file.path.as_str()) {
        ("adapter_lines", MOST_ADAPTER_LINES)
    } else {
        ("file_lines", MOST_LINES)
    };
    if lines > most {
        let text = format!("{}: {lines} lines, at most {most}", file.path);
        findings.push(Finding { weight: lines - most, ..Finding::new(rule, file.area(), text) });
    }
    if DATA_PATH.iter().any(|folder| file.path.starts_with(folder)) && !file.path.starts_with(NOT_DATA_PATH) {
        findings.extend(long_functions(file)?);
    }
    Ok(findings)
}

fn long_functions(file: &TextFile) -> Result<Vec<Finding>> {
    let syntax = syn::parse_file(&file.text).with_context(|| format!("parsing {}", file.path))?;
    let mut functions = Functions::default();
    functions.visit_file(&syntax);
    let long = functions.found.into_iter().filter(|(_, lines)| *lines > MOST_FUNCTION_LINES);
    let finding = |(name, lines): (String, usize)| Finding {
        weight: lines - MOST_FUNCTION_LINES,
        ..Finding::new(
            "function_lines",
            file.area(),
            format!("{}: {name} has {lines} lines, at most {MOST_FUNCTION_LINES}", file.path),
        )
    };
    Ok(long.map(finding).collect())
}

/// Functions with the number of lines from `fn` to the closing brace.
#[derive(Default)]
struct Functions {
    found: Vec<(String, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &Signature, body: &Block) {
        let first = signature.span().start().line;
        self.found.push((signature.ident.to_string(), body.span().end().line + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        check(&file).unwrap().into_iter().map(|finding| (finding.rule, finding.weight)).collect()
    }

    #[test]
    fn a_file_of_400_lines_passes_and_one_of_401_does_not() {
        let lines = |number| "//! Its job.\n".repeat(number);
        assert!(rules("xtask/src/x.rs", &lines(400)).is_empty());
        assert_eq!(rules("xtask/src/x.rs", &lines(402)), [("file_lines", 2)]);
        assert_eq!(rules("lb-ebpf/src/tc.rs", &lines(151)), [("adapter_lines", 1)]);
    }

    #[test]
    fn an_attribute_on_the_first_line_is_found() {
        assert_eq!(rules("xtask/src/x.rs", "#![no_std]\n//! Its job.\n"), [("first_line", 1)]);
    }

    #[test]
    fn functions_of_the_data_path_are_measured_also_in_traits() {
        let body = "    f();\n".repeat(59);
        let long = format!("//! Its job.\ntrait T {{ fn long() {{\n{body}}} }}\nfn short() {{\n    f();\n}}\n");
        assert_eq!(rules("lb-common/src/datapath/x.rs", &long), [("function_lines", 1)]);
        assert!(rules("lb-userspace/src/x.rs", &long).is_empty());
        assert!(rules("lb-ebpf/src/bench/x.rs", &long).is_empty());
    }
}
