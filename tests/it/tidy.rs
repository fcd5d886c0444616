//! The structure of the code: dependencies point down, and each kind of file keeps to its purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FLOOR: [&str; 13] = [
    "admission",
    "calendar",
    "clock",
    "config",
    "error",
    "page",
    "mail",
    "metrics",
    "rate_limit",
    "telemetry",
    "text",
    "auth",
    "tenancy",
];
const TOOLKIT: &str = "graphql";
const SURFACE: [&str; 7] =
    ["api_docs", "background", "cli", "http", "request", "schema", "subscription"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the top-level module of a file below `src`.
fn module(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the top-level modules that a text uses, from `crate::x` and the groups of `use
/// crate::{…}`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for char in group.chars() {
                match char {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(std::mem::take(&mut item));
                    }
                    char if depth == 0 => item.push(char),
                    _ => {}
                }
            }
            found.insert(item);
        } else {
            found.insert(rest.to_owned());
        }
    }
    let name = |item: &str| {
        let item = item.trim();
        item[..item.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(item.len())]
            .to_owned()
    };
    found.iter().map(|item| name(item)).filter(|item| !item.is_empty()).collect()
}

fn files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root)
        .into_iter()
        .map(|path| {
            (path.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn is_area(module: &str) -> bool {
    !FLOOR.contains(&module)
        && module != TOOLKIT
        && !SURFACE.contains(&module)
        && module != "lib"
        && module != "main"
}

#[test]
fn dependencies_point_down() {
    let mut areas: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files() {
        let from = module(&path);
        for to in uses(&text) {
            let allowed = if FLOOR.contains(&from.as_str()) || from == TOOLKIT {
                !is_area(&to) && !SURFACE.contains(&to.as_str())
            } else if is_area(&from) {
                !SURFACE.contains(&to.as_str())
            } else {
                true
            };
            assert!(allowed, "{} uses {to}, which is above it", path.display());
            if is_area(&from) && is_area(&to) && from != to {
                areas.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    // Remove areas without remaining dependencies. What is left forms a cycle.
    let mut left = areas.clone();
    while let Some(area) = left
        .iter()
        .find(|(_, used)| used.iter().all(|area| !left.contains_key(area)))
        .map(|(area, _)| area.clone())
    {
        left.remove(&area);
    }
    assert!(left.is_empty(), "a cycle of areas: {left:?}");
    assert!(areas["organization"].contains("project"), "the test reads no imports: {areas:?}");
    for alone in ["audit", "plan"] {
        let used: Vec<_> =
            areas.get(alone).into_iter().flatten().filter(|area| *area != "user").collect();
        assert!(used.is_empty(), "{alone} calls {used:?}");
    }
}

#[test]
fn operations_use_no_graphql_and_resolvers_no_sql() {
    for (path, text) in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let shown = path.display();
        if name == "ops.rs" {
            assert!(
                !text.contains("async_graphql") && !text.contains("axum"),
                "{shown} depends on its callers"
            );
        }
        if is_area(&module(&path)) {
            assert!(!text.contains("pg::"), "{shown} reaches the database outside its session");
        }
        if name == "graphql.rs" && is_area(&module(&path)) {
            let sql = ["sea_orm", "Statement", "EntityTrait", "ActiveModel"];
            assert!(!sql.iter().any(|word| text.contains(word)), "{shown} runs SQL");
        }
    }
}

#[test]
fn crates_are_independent() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, outsider) in [
        ("entity/src", "migration::"),
        ("migration/src", "entity::"),
        ("crates", "entity::"),
        ("crates", "migration::"),
    ] {
        for path in sources(&root.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                !text.contains(&format!("use {outsider}")),
                "{} uses {outsider}",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_opens_with_its_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "crates", "entity/src", "migration/src", "tests"] {
        for path in sources(&root.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{} does not", path.display());
            if folder != "tests" {
                let lines = text.lines().count();
                assert!(lines <= 400, "{} has {lines} lines: split it", path.display());
            }
        }
    }
}

#[test]
fn every_audit_action_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let actions = fs::read_to_string(root.join("src/audit/action.rs")).unwrap();
    let docs = fs::read_to_string(root.join("docs/audit.md")).unwrap();
    let names: Vec<_> =
        actions.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(docs.contains(&format!("| `{name}` |")), "docs/audit.md lacks {name}");
    }
}

#[test]
fn requests_open_no_system_session() {
    let may = ["background", "cli", "billing/inbox.rs", "usage/call_meter.rs", "tenancy"];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut opening = 0;
    for file in sources(&source) {
        let path = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        if fs::read_to_string(&file).unwrap().contains("open_system(") {
            opening += 1;
            assert!(
                may.iter().any(|place| path.starts_with(place)),
                "{path} opens a system session"
            );
        }
    }
    assert!(opening >= 4, "{opening}");
}
