//! Reads a target's files into a tree of modules: what each defines, what it imports, what it passes on.
//!
//! Code that is compiled for tests only is left out: it may import whatever it tests.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, Token, UseTree, Visibility};

/// Number of a module in its [`ModuleTree`].
pub(super) type ModuleId = usize;

/// A name that a `use` brings into a module.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// Where it comes from, as written.
    pub(super) path: Vec<String>,
    /// Whether other modules may take it from here.
    pub(super) passed_on: bool,
    /// The line of the `use`.
    pub(super) line: usize,
}

/// One module, a file or a part of one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// The names that lead to it from the crate's root.
    pub(super) path: Vec<String>,
    /// Number of its file in [`ModuleTree::files`].
    pub(super) file: usize,
    /// The module around it; the root's is the root.
    pub(super) parent: ModuleId,
    /// Modules within it.
    pub(super) children: HashMap<String, ModuleId>,
    /// What it defines.
    pub(super) items: HashSet<String>,
    /// What it imports, by the name that it has here.
    pub(super) imports: HashMap<String, Import>,
    /// Modules of which it imports everything.
    pub(super) globs: Vec<Import>,
}

/// One file of the tree.
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The module that it holds.
    pub(super) module: ModuleId,
    /// What is in it.
    pub(super) syntax: syn::File,
}

/// The modules of one target; the first is the root.
#[derive(Default)]
pub(super) struct ModuleTree {
    /// The modules.
    pub(super) modules: Vec<Module>,
    /// The files.
    pub(super) files: Vec<SourceFile>,
    /// Modules that define a macro, by the macro's name.
    pub(super) macros: HashMap<String, ModuleId>,
}

impl ModuleTree {
    /// Reads all files that belong to a root file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.modules.push(Module::default());
        tree.read_file(root, 0, root.parent().unwrap_or(root))?;
        Ok(tree)
    }

    /// Reads the file of a module; `folder` is where the files of its children are.
    fn read_file(&mut self, path: &Path, module: ModuleId, folder: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let syntax = syn::parse_file(&text).with_context(|| format!("parsing {}", path.display()))?;
        if let Some(module) = self.modules.get_mut(module) {
            module.file = self.files.len();
        }
        let items = syntax.items.clone();
        self.files.push(SourceFile { path: path.to_path_buf(), module, syntax });
        self.read_items(&items, module, folder)
    }

    fn read_items(&mut self, items: &[Item], module: ModuleId, folder: &Path) -> Result<()> {
        for item in items.iter().filter(|item| !only_for_tests(attributes(item))) {
            if let Some(name) = defined_name(item) {
                if matches!(item, Item::Macro(_)) {
                    self.macros.insert(name.clone(), module);
                }
                self.modules[module].items.insert(name);
            }
            if let Item::Mod(declared) = item {
                self.read_child(declared, module, folder)?;
                continue;
            }
            let mut uses = Uses::default();
            uses.visit_item(item);
            let this = &mut self.modules[module];
            this.imports.extend(uses.named);
            this.globs.extend(uses.globs);
        }
        Ok(())
    }

    fn read_child(&mut self, declared: &ItemMod, parent: ModuleId, folder: &Path) -> Result<()> {
        let name = declared.ident.to_string();
        let id = self.modules.len();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let file = self.modules[parent].file;
        self.modules.push(Module { path, file, parent, ..Module::default() });
        self.modules[parent].children.insert(name.clone(), id);
        if let Some((_, items)) = &declared.content {
            return self.read_items(items, id, &folder.join(&name));
        }
        let beside = folder.join(format!("{name}.rs"));
        let within = folder.join(&name).join("mod.rs");
        match (written_path(declared), beside.is_file(), within.is_file()) {
            (Some(written), _, _) => self.read_file(&folder.join(written), id, folder),
            (None, true, _) => self.read_file(&beside, id, &folder.join(&name)),
            (None, false, true) => self.read_file(&within, id, &folder.join(&name)),
            (None, false, false) => bail!("no file for module {name} in {}", folder.display()),
        }
    }
}

fn written_path(declared: &ItemMod) -> Option<String> {
    declared.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether something with these attributes is compiled for tests only.
pub(super) fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|wants| wants_test(&wants))
        }
        _ => false,
    })
}

/// Whether a condition of `cfg` holds in tests only.
fn wants_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap_or_default();
            let mut wanted = parts.iter().map(wants_test);
            if list.path.is_ident("all") {
                wanted.any(|wanted| wanted)
            } else {
                list.path.is_ident("any") && wanted.all(|wanted| wanted)
            }
        }
        Meta::NameValue(_) => false,
    }
}

/// Gathers every `use`, also those within functions.
#[derive(Default)]
struct Uses {
    named: HashMap<String, Import>,
    globs: Vec<Import>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_for_tests(attributes(item)) && !matches!(item, Item::Mod(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            let passed_on = !matches!(item.vis, Visibility::Inherited);
            self.add(&item.tree, &mut Vec::new(), passed_on, item.use_token.span.start().line);
        }
    }
}

impl Uses {
    fn add(&mut self, tree: &UseTree, before: &mut Vec<String>, passed_on: bool, line: usize) {
        let mut name = |ident: &syn::Ident, known_as: &syn::Ident| {
            let mut path = before.clone();
            // `use a::b::{self}` imports `b` itself.
            if ident != "self" {
                path.push(ident.to_string());
            }
            let known_as = match known_as.to_string().as_str() {
                "self" => path.last().cloned().unwrap_or_default(),
                // There may be several of them.
                "_" => format!("_ {}", path.join("::")),
                other => other.to_owned(),
            };
            self.named.insert(known_as, Import { path, passed_on, line });
        };
        match tree {
            UseTree::Name(leaf) => name(&leaf.ident, &leaf.ident),
            UseTree::Rename(leaf) => name(&leaf.ident, &leaf.rename),
            UseTree::Glob(_) => self.globs.push(Import { path: before.clone(), passed_on, line }),
            UseTree::Path(branch) => {
                before.push(branch.ident.to_string());
                self.add(&branch.tree, before, passed_on, line);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add(tree, before, passed_on, line);
                }
            }
        }
    }
}
