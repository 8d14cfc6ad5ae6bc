//! Finds which file uses what of which other file: every `use` and every path in the code, re-exports followed to the
//! file that defines the item.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, TraitItem, Visibility};

use super::module_tree::{Import, ModuleId, ModuleTree, attributes, only_for_tests};

/// How many re-exports in a row are followed.
const MOST_HOPS: usize = 16;

/// What one file uses of another, with the first line that does.
pub(super) type Uses = BTreeMap<(usize, usize), BTreeMap<String, usize>>;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Module(ModuleId),
    Item(ModuleId, String),
    Elsewhere,
}

/// All uses between different files of a tree.
pub(super) fn uses(tree: &ModuleTree) -> Uses {
    let mut finder = Finder { tree, module: 0, uses: Uses::new() };
    for file in &tree.files {
        finder.module = file.module;
        finder.visit_file(&file.syntax);
    }
    for (id, module) in tree.modules.iter().enumerate() {
        finder.module = id;
        for import in module.imports.values() {
            finder.import(import);
        }
    }
    finder.uses
}

struct Finder<'tree> {
    tree: &'tree ModuleTree,
    /// The module that is being looked at.
    module: ModuleId,
    uses: Uses,
}

impl Finder<'_> {
    /// A `use` of an item is a use of its file; one of a module is not, only what is then taken from the module.
    fn import(&mut self, import: &Import) {
        let found = self.resolve(self.module, &import.path, MOST_HOPS);
        let Found::Item(module, _) = &found else { return };
        // Passing on what is defined further in is no use of it.
        let here = &self.tree.modules[self.module].path;
        if !(import.passed_on && self.tree.modules[*module].path.starts_with(here)) {
            self.used(found, import.line);
        }
    }

    fn path(&mut self, path: &[String], line: usize) {
        let found = self.resolve(self.module, path, MOST_HOPS);
        self.used(found, line);
    }

    fn used(&mut self, found: Found, line: usize) {
        let Found::Item(module, name) = found else { return };
        let (from, to) = (self.tree.modules[self.module].file, self.tree.modules[module].file);
        if from != to {
            let names = self.uses.entry((from, to)).or_default();
            let first = names.entry(name).or_insert(line);
            *first = line.min(*first);
        }
    }

    fn resolve(&self, from: ModuleId, path: &[String], hops: usize) -> Found {
        let mut module = from;
        let mut rest = path;
        while let Some((first, after)) = rest.split_first() {
            module = match first.as_str() {
                "crate" => 0,
                "self" => module,
                "super" => self.tree.modules[module].parent,
                _ => break,
            };
            rest = after;
        }
        let unqualified = rest.len() == path.len();
        while let Some((name, after)) = rest.split_first() {
            let here = &self.tree.modules[module];
            if let Some(child) = here.children.get(name) {
                (module, rest) = (*child, after);
                continue;
            }
            if let Some(found) = self.known(module, rest, hops) {
                return found;
            }
            if let (false, Some(definer)) = (unqualified, self.tree.macros.get(name)) {
                return Found::Item(*definer, name.clone());
            }
            let may_be_elsewhere = unqualified && rest.len() == path.len();
            // A name that a macro defines.
            return if may_be_elsewhere { Found::Elsewhere } else { Found::Item(module, name.clone()) };
        }
        Found::Module(module)
    }

    /// What a module knows by the first of these names, if it does.
    fn known(&self, module: ModuleId, names: &[String], hops: usize) -> Option<Found> {
        let (name, after) = names.split_first()?;
        let hops = hops.checked_sub(1)?;
        let here = &self.tree.modules[module];
        if here.items.contains(name) {
            return Some(Found::Item(module, name.clone()));
        }
        if let Some(import) = here.imports.get(name) {
            let whole: Vec<String> = import.path.iter().chain(after).cloned().collect();
            // `use name::...` within a module that has that name from elsewhere.
            let circular = import.path.first() == Some(name);
            return Some(if circular { Found::Elsewhere } else { self.resolve(module, &whole, hops) });
        }
        here.globs.iter().find_map(|glob| match self.resolve(module, &glob.path, hops) {
            Found::Module(other) if other != module => match self.tree.modules[other].children.get(name) {
                Some(child) => Some(self.resolve(*child, after, hops)),
                None => self.known(other, names, hops),
            },
            _ => None,
        })
    }

    /// Paths within what only a macro understands.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.path(path, line);
            path.clear();
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, declared: &'ast ItemMod) {
        let Some((_, items)) = &declared.content else { return };
        let around = self.module;
        if let Some(child) = self.tree.modules[around].children.get(&declared.ident.to_string()) {
            self.module = *child;
            for item in items {
                self.visit_item(item);
            }
            self.module = around;
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let of_tests = match item {
            ImplItem::Fn(function) => only_for_tests(&function.attrs),
            ImplItem::Const(constant) => only_for_tests(&constant.attrs),
            _ => false,
        };
        if !of_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let of_tests = matches!(item, TraitItem::Fn(function) if only_for_tests(&function.attrs));
        if !of_tests {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: BTreeSet<_> = path.segments.iter().map(|segment| segment.ident.span().start().line).collect();
            let line = names.first().copied().unwrap_or_default();
            let path: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&path, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        visit::visit_macro(self, called);
        if let Some(definer) = called.path.get_ident().and_then(|name| self.tree.macros.get(&name.to_string())) {
            let name = called.path.get_ident().map(ToString::to_string).unwrap_or_default();
            self.used(Found::Item(*definer, name), called.bang_token.span.start().line);
        }
        self.tokens(called.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    /// All of them are known already.
    fn visit_item_use(&mut self, _item: &'ast ItemUse) {}

    /// `pub(super)` is no use of the module above.
    fn visit_visibility(&mut self, _visibility: &'ast Visibility) {}
}
