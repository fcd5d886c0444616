//! The imports between the files of a crate. A name that a module re-exports leads to the file that
//! defines it, so neither `mod` nor `pub use` is an import.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{
    Attribute, Item, UseTree, Visibility,
    visit::{self, Visit},
};

/// The path of a module or an item from the root of the crate.
type Absolute = Vec<String>;

/// Edges from each file to the files that it imports.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// One file, with the module that it is.
struct Source {
    file: String,
    module: Absolute,
    parsed: syn::File,
    /// The items that it defines.
    items: BTreeSet<String>,
    /// The names that it imports or re-exports; `None` for those of other crates.
    names: BTreeMap<String, Option<Absolute>>,
    globs: Vec<Absolute>,
}

/// Reads the imports of every file below `src`, without tests.
pub fn imports(src: &Path, files: &[std::path::PathBuf]) -> Graph {
    let mut sources = BTreeMap::new();
    for path in files {
        let file = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
        let mut module: Absolute =
            file.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
        if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
            module.pop();
        }
        if !file.ends_with("_tests.rs") && file != "main.rs" {
            let parsed = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
            let items = parsed.items.iter().filter_map(name_of).collect();
            let (names, globs) = (BTreeMap::new(), Vec::new());
            sources.insert(module.clone(), Source { file, module, parsed, items, names, globs });
        }
    }
    let modules: BTreeSet<Absolute> = sources.keys().cloned().collect();
    for source in sources.values_mut() {
        for item in &source.parsed.items {
            if let Item::Use(item) = item {
                for (path, name) in flatten(&item.tree, &mut Vec::new()) {
                    let path = absolute(&path, &source.module, &modules, &BTreeMap::new());
                    match (name, path) {
                        (Some(name), path) => drop(source.names.insert(name, path)),
                        (None, Some(path)) => source.globs.push(path),
                        (None, None) => {}
                    }
                }
            }
        }
    }
    let mut graph = Graph::new();
    for source in sources.values() {
        let mut used = Used::default();
        used.visit_file(&source.parsed);
        let paths = used.0.iter();
        let paths =
            paths.filter_map(|path| absolute(path, &source.module, &modules, &source.names));
        let imported = paths.filter_map(|path| file_of(&sources, &path));
        let imported = imported.filter(|file| *file != source.file).collect();
        graph.insert(source.file.clone(), imported);
    }
    graph
}

/// The sets of files or modules that import each other, directly or not.
pub fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(node) = next.pop() {
            for to in graph.get(node).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: Graph = graph.keys().map(|node| (node.clone(), reached(node))).collect();
    let circle = |node: &String| -> BTreeSet<String> {
        let there = reached[node].iter();
        there
            .filter(|to| reached.get(*to).is_some_and(|back| back.contains(node)))
            .cloned()
            .collect()
    };
    let circles: BTreeSet<_> = graph.keys().map(circle).filter(|set| !set.is_empty()).collect();
    circles.into_iter().collect()
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The paths of a `use`, each with the name that it gets; none for a glob.
fn flatten(tree: &UseTree, above: &mut Absolute) -> Vec<(Absolute, Option<String>)> {
    let with = |name: &str| {
        let own = (name != "self").then(|| name.to_owned());
        above.iter().cloned().chain(own).collect::<Absolute>()
    };
    match tree {
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            let found = flatten(&path.tree, above);
            above.pop();
            found
        }
        UseTree::Name(name) => {
            let path = with(&name.ident.to_string());
            let name = path.last().cloned();
            vec![(path, name)]
        }
        UseTree::Rename(rename) => {
            vec![(with(&rename.ident.to_string()), Some(rename.rename.to_string()))]
        }
        UseTree::Glob(_) => vec![(above.clone(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| flatten(tree, above)).collect(),
    }
}

/// The path from the root, if it is one of this crate.
fn absolute(
    path: &[String],
    module: &Absolute,
    modules: &BTreeSet<Absolute>,
    names: &BTreeMap<String, Option<Absolute>>,
) -> Option<Absolute> {
    let (first, rest) = path.split_first()?;
    let mut start = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => {
            let above = 1 + rest.iter().take_while(|name| *name == "super").count();
            module[..module.len().checked_sub(above)?].to_vec()
        }
        name if names.contains_key(name) => names[name].clone()?,
        name => {
            let child = [module.as_slice(), &[name.to_owned()]].concat();
            modules.contains(&child).then_some(child)?
        }
    };
    start.extend(rest.iter().skip_while(|name| *name == "super").cloned());
    Some(start)
}

/// The file that defines an item; none for a module as a whole, or for an item of another crate.
fn file_of(sources: &BTreeMap<Absolute, Source>, path: &[String]) -> Option<String> {
    let mut module = Vec::new();
    for (at, name) in path.iter().enumerate() {
        module.push(name.clone());
        if sources.contains_key(&module) {
            continue;
        }
        module.pop();
        let source = sources.get(&module)?;
        if source.items.contains(name) {
            return Some(source.file.clone());
        }
        if let Some(target) = source.names.get(name) {
            return file_of(sources, &[target.as_ref()?.as_slice(), &path[at + 1..]].concat());
        }
        let through = |glob: &Absolute| {
            let there = sources.get(glob)?;
            there.items.contains(name).then(|| there.file.clone())
        };
        // What is not found is defined by a macro.
        return source.globs.iter().find_map(through).or(Some(source.file.clone()));
    }
    None
}

/// The paths that a file uses.
#[derive(Default)]
struct Used(Vec<Absolute>);

impl Visit<'_> for Used {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        if matches!(item.vis, Visibility::Inherited) {
            self.0.extend(flatten(&item.tree, &mut Vec::new()).into_iter().map(|(path, _)| path));
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        let text = call.tokens.to_string().replace(" :: ", "::");
        let is_word = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
        let words = text.split(|char| !is_word(char)).filter(|word| word.contains("::"));
        self.0.extend(words.map(|word| word.split("::").map(ToOwned::to_owned).collect()));
        visit::visit_macro(self, call);
    }
}

fn is_test(attribute: &Attribute) -> bool {
    match &attribute.meta {
        syn::Meta::List(list) => {
            list.path.is_ident("cfg") && list.tokens.to_string().contains("test")
        }
        _ => false,
    }
}
