//! Which module of the source uses which, by resolved paths: `use` trees, paths in expressions and types, the tokens of macros, `super` chains,
//! and names that a module re-exports. What stands in tests is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::tidy::rust_files;

/// A module, by the names on its way from the crate's root.
pub type Module = Vec<String>;

/// The modules of the source, each with the modules that it uses.
pub struct Imports {
    /// By module: its file below `src`.
    pub files: BTreeMap<Module, String>,
    /// From a module to the written path of each use, resolved to the crate's root.
    pub written: BTreeMap<Module, BTreeSet<Vec<String>>>,
    /// From a module to the modules that hold what it uses.
    pub uses: BTreeMap<Module, BTreeSet<Module>>,
    /// Where `crate` is given another name, which nothing here would see through.
    pub renamed_crate: Vec<String>,
}

/// Where a module says that a name comes from: (module, name) to a path from the crate's root.
type Exports = BTreeMap<(Module, String), Vec<String>>;

#[derive(Default)]
struct Reader {
    /// The module that is being read, inline modules included.
    module: Module,
    children: BTreeSet<String>,
    paths: BTreeSet<Vec<String>>,
    exports: Exports,
    renames_crate: bool,
    /// The tree that is being flattened is a re-export.
    is_export: bool,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg")
            && list.tokens.clone().into_iter().any(|token| token.to_string().contains("test"))
    })
}

impl Reader {
    /// A path from the crate's root, where it is one of ours.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut module = self.module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            child if self.children.contains(child) => {}
            _ => return None,
        }
        module.extend(rest.iter().cloned());
        Some(module)
    }

    fn add(&mut self, path: &[String]) {
        self.paths.extend(self.resolve(path).filter(|path| !path.is_empty()));
    }

    fn flatten(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let mut path = prefix.to_vec();
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.flatten(&path, &part.tree);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(&path, tree)),
            syn::UseTree::Glob(_) => self.add(&path),
            syn::UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.end(&path, path.last().cloned());
            }
            syn::UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.renames_crate |= path == ["crate"];
                self.end(&path, Some(rename.rename.to_string()));
            }
        }
    }

    fn end(&mut self, path: &[String], name: Option<String>) {
        // What a module imports for itself its children may take from it too.
        if let (Some(path), Some(name)) = (self.resolve(path), name) {
            self.exports.insert((self.module.clone(), name), path);
        }
        if !self.is_export {
            self.add(path);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(point) if point.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.add(&std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        _ => {}
                    }
                }
            }
        }
        self.add(&path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.is_export = !matches!(item.vis, syn::Visibility::Inherited);
        self.flatten(&[], &item.tree);
        self.is_export = false;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.add(&names);
        }
        visit::visit_path(self, path);
    }

    // `pub(in …)` is no use of what it names.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        self.tokens(found.tokens.clone());
    }
}

fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(path, "lib" | "main" | "mod") {
        Vec::new()
    } else {
        path.split('/').map(str::to_owned).collect()
    }
}

/// The module that holds what a path names: the longest that is a file, behind every re-export on the way.
fn holder(path: &[String], files: &BTreeMap<Module, String>, exports: &Exports) -> Option<Module> {
    let mut path = path.to_vec();
    // Re-exports may lead to re-exports.
    for _ in 0..8 {
        let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let Some(target) = rest.first().and_then(|name| exports.get(&(module.to_vec(), name.clone()))) else {
            return Some(module.to_vec());
        };
        path = target.iter().chain(&rest[1..]).cloned().collect();
    }
    None
}

/// Reads the source.
pub fn read() -> Imports {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut texts = Vec::new();
    for path in rust_files(&root) {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if name == "main.rs" {
            continue;
        }
        files.insert(module_of(&name), name.clone());
        texts.push((name, fs::read_to_string(path).unwrap()));
    }
    let (mut written, mut exports, mut renamed_crate) = (BTreeMap::new(), Exports::new(), Vec::new());
    for (name, text) in texts {
        let module = module_of(&name);
        let is_child = |other: &&Module| other.len() == module.len() + 1 && other.starts_with(&module);
        let children = files.keys().filter(is_child).filter_map(|child| child.last().cloned()).collect();
        let mut reader = Reader { module: module.clone(), children, ..Reader::default() };
        reader.visit_file(&syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}")));
        if reader.renames_crate {
            renamed_crate.push(name);
        }
        exports.extend(reader.exports);
        written.insert(module, reader.paths);
    }
    let mut uses: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, paths) in &written {
        let held = paths.iter().filter_map(|path| holder(path, &files, &exports));
        uses.insert(module.clone(), held.filter(|held| held != module).collect());
    }
    Imports { files, written, uses, renamed_crate }
}

/// The circles: groups of modules of which each leads to each other, the smallest way round first.
pub fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for to in uses.get(&module).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        uses.keys().map(|module| (module, reach(module))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (module, there) in &reached {
        if !there.contains(*module) || found.iter().any(|circle| circle.contains(*module)) {
            continue;
        }
        let back =
            there.iter().filter(|other| reached.get(other).is_some_and(|there| there.contains(*module)));
        found.push(back.cloned().collect());
    }
    found
}

/// What a file of this module would use, with this text.
fn used(module: &[&str], children: &[&str], text: &str) -> Vec<String> {
    let module = module.iter().map(|name| (*name).to_owned()).collect();
    let children = children.iter().map(|name| (*name).to_owned()).collect();
    let mut reader = Reader { module, children, ..Reader::default() };
    reader.visit_file(&syn::parse_file(text).unwrap());
    reader.paths.into_iter().map(|path| path.join("::")).collect()
}

#[test]
fn no_spelling_of_a_path_is_missed() {
    for text in [
        "use crate::edge::http::render;",
        "use super::super::http::render;",
        "use super::super::{http::render};",
        "fn f() { super::super::http::render() }",
        "fn f() -> super::super::http::render { loop {} }",
        "use super::{super::{http::render}};",
        "mod inner { use super::super::super::http::render; }",
        "fn f() { println!(\"{}\", super::super::http::render()) }",
    ] {
        assert!(
            used(&["edge", "grpc", "service"], &[], text).contains(&"edge::http::render".to_owned()),
            "{text}"
        );
    }
    assert_eq!(used(&["a"], &["b"], "use b::C; use serde::D;"), ["a::b::C"]);
    for text in ["// crate::cli", "#[cfg(test)] mod tests { use crate::cli; }", "use http::Request;"] {
        assert_eq!(used(&["a", "b"], &[], text), [""; 0], "{text}");
    }
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let uses = |arrows: &[(&str, &str)]| {
        let mut uses: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to) in arrows {
            uses.entry(module(from)).or_default().insert(module(to));
        }
        circles(&uses)
    };
    assert!(uses(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    assert_eq!(uses(&[("a", "b"), ("b", "c"), ("c", "b")]), [BTreeSet::from([module("b"), module("c")])]);
}
