//! Circles of imports, between the files of a target and between its modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::Result;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::imports;
use super::module_tree::ModuleTree;
use super::target::Target;
use crate::command::workspace_root;

/// Nodes that reach each other, with what each takes from which other, and where.
pub(super) type Edges = BTreeMap<(String, String), BTreeSet<String>>;

/// What uses what within a target.
#[derive(Debug)]
pub(super) struct Graph {
    /// The target, as people know it.
    pub(super) name: String,
    files: Edges,
    modules: Edges,
    /// The modules right below the root.
    top: Vec<String>,
}

impl Graph {
    /// Reads a target's sources.
    pub(super) fn of(target: &Target) -> Result<Self> {
        let tree = ModuleTree::read(&target.root)?;
        let name = format!("{} ({})", target.package, target.name);
        let (mut files, mut modules) = (Edges::new(), Edges::new());
        for ((from, to), names) in imports::uses(&tree) {
            let places: BTreeSet<_> = names.iter().map(|(name, line)| format!("{name} (line {line})")).collect();
            let path = |file: usize| shown(&tree.files[file].path);
            let (from_module, to_module) = (top(&tree, from), top(&tree, to));
            if from_module != to_module {
                let here = names.keys().map(|name| format!("{} takes {name} from {}", path(from), path(to)));
                modules.entry((from_module, to_module)).or_default().extend(here);
            }
            files.insert((path(from), path(to)), places);
        }
        let top = tree.modules.iter().filter(|module| module.path.len() == 1).flat_map(|module| module.path.clone());
        Ok(Self { name, files, modules, top: top.collect() })
    }

    /// Circles between files.
    pub(super) fn file_circles(&self) -> Vec<Edges> {
        circles(&self.files)
    }

    /// The modules right below the root.
    pub(super) fn modules(&self) -> impl Iterator<Item = &str> {
        self.top.iter().map(String::as_str)
    }

    /// What these modules take from each other. The root's own files are a module by the name of `crate`.
    pub(super) fn module_edges(&self) -> &Edges {
        &self.modules
    }

    /// Circles between the modules right below the root.
    pub(super) fn module_circles(&self) -> Vec<Edges> {
        circles(&self.modules)
    }
}

/// A file's module right below the root, or the root.
fn top(tree: &ModuleTree, file: usize) -> String {
    let module = &tree.modules[tree.files[file].module];
    module.path.first().cloned().unwrap_or_else(|| "crate".to_owned())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace_root()).unwrap_or(path).display().to_string()
}

/// The edges on circles, one map for all circles that hang together.
fn circles(edges: &Edges) -> Vec<Edges> {
    let graph: DiGraphMap<&str, ()> = edges.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let together = tarjan_scc(&graph).into_iter().filter(|nodes| nodes.len() > 1);
    let mut found: Vec<Edges> = together
        .map(|nodes| {
            let nodes: BTreeSet<&str> = nodes.into_iter().collect();
            let within = |(from, to): &(String, String)| nodes.contains(from.as_str()) && nodes.contains(to.as_str());
            edges.iter().filter(|(ends, _)| within(ends)).map(|(ends, names)| (ends.clone(), names.clone())).collect()
        })
        .collect();
    found.sort_by_key(BTreeMap::len);
    found
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, circles) in [("files", self.file_circles()), ("modules", self.module_circles())] {
            for circle in circles {
                let nodes: BTreeSet<&String> = circle.keys().flat_map(|(from, to)| [from, to]).collect();
                writeln!(f, "{}: a circle of {} {kind}, {} edges", self.name, nodes.len(), circle.len())?;
                for ((from, to), names) in &circle {
                    writeln!(f, "  {from} -> {to}")?;
                    for name in names {
                        writeln!(f, "      {name}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The graph of a library with these files.
    fn graph(files: &[(&str, &str)]) -> Graph {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = folder.path().join("lib.rs");
        Graph::of(&Target { package: "test".into(), name: "test".into(), root, is_library: true }).unwrap()
    }

    /// From and to, without the folder.
    fn edges(edges: &Edges) -> Vec<(&str, &str)> {
        let short = |path: &'_ str| path.rfind('/').map_or(0, |slash| slash + 1);
        edges.keys().map(|(from, to)| (&from[short(from)..], &to[short(to)..])).collect()
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines_the_item() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod inner; pub use inner::Thing;"),
            ("a/inner.rs", "pub struct Thing;"),
            ("b.rs", "use crate::a; fn f(_: a::Thing) {}"),
        ]);
        assert_eq!(edges(&graph.files), [("b.rs", "inner.rs")]);
        assert_eq!(edges(&graph.modules), [("b", "a")]);
    }

    #[test]
    fn files_that_take_from_each_other_are_a_circle() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f() -> super::a::A { todo!() }"),
            ("c.rs", "use crate::a::*; fn f(_: A) {}"),
        ]);
        assert_eq!(graph.file_circles().len(), 1);
        assert_eq!(edges(&graph.file_circles()[0]), [("a.rs", "b.rs"), ("b.rs", "a.rs")]);
        assert_eq!(graph.module_circles().len(), 1);
        assert_eq!(edges(&graph.files), [("a.rs", "b.rs"), ("b.rs", "a.rs"), ("c.rs", "a.rs")]);
    }

    #[test]
    fn what_only_tests_use_is_not_counted() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            (
                "b.rs",
                "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[cfg(all(test, unix))] use super::a::A;",
            ),
        ]);
        assert!(graph.file_circles().is_empty());
    }

    #[test]
    fn paths_in_the_arguments_of_macros_and_attributes_are_seen() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "fn f() { assert!(crate::b::ready(\"x::y\")); }"),
            ("b.rs", "pub fn ready(_: &str) -> bool { true }"),
            ("c.rs", "struct C { #[arg(value_parser = super::b::ready)] c: u8 }"),
        ]);
        assert_eq!(edges(&graph.files), [("a.rs", "b.rs"), ("c.rs", "b.rs")]);
    }

    #[test]
    fn a_name_of_another_crate_is_not_taken_for_a_module() {
        let graph = graph(&[
            ("lib.rs", "mod a; mod http;"),
            ("a.rs", "use http::Request; use std::fmt as http; fn f() { http::x(); ::http::y(); }"),
            ("http.rs", "pub struct Request;"),
        ]);
        assert!(graph.files.is_empty());
    }
}
