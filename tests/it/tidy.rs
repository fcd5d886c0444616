//! The structure of the code: dependencies point down, and each kind of file keeps to its purpose.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tenantry::{
    area::{Area as _, Limit},
    areas::Areas,
    declared::Declared as _,
    graphql::NodeType,
    permission::Permission,
};

use crate::support::imports::{Graph, circles, imports};

const FLOOR: [&str; 19] = [
    "action",
    "admission",
    "area",
    "calendar",
    "children",
    "clock",
    "declared",
    "edit",
    "enum_name",
    "error",
    "page",
    "permission",
    "mail",
    "metrics",
    "rate_limit",
    "sql",
    "text",
    "auth",
    "tenancy",
];
const TOOLKIT: &str = "graphql";
/// The product that is built on tenantry: a list of areas, each in its folder.
const APP: &str = "app";
const SURFACE: [&str; 12] = [
    "api_docs",
    APP,
    "areas",
    "background",
    "cli",
    "config",
    "federation",
    "http",
    "request",
    "schema",
    "subscription",
    "telemetry",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    files_of(folder, "rs")
}

fn files_of(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the top-level module of a file below `src`, or the area of the product.
fn module(file: &Path) -> String {
    let parts: Vec<_> = file.iter().map(|part| part.to_str().unwrap()).collect();
    match parts[..] {
        [APP, area, _, ..] => format!("{APP}/{area}"),
        [first, ..] => first.trim_end_matches(".rs").to_owned(),
        [] => unreachable!("a file has a name"),
    }
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

/// The imports between the files of `src`.
fn graph() -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let graph = imports(&src, &sources(&src));
    let imported = &graph["app/project/ops.rs"];
    // Through a re-export, as a name of a module, but not through a `mod` in the file.
    assert!(imported.contains("tenancy/session.rs") && imported.contains("plan/ops.rs"));
    assert!(graph["app/project/mod.rs"].is_empty() && graph.len() > 100, "{}", graph.len());
    graph
}

/// The imports between the top-level modules.
fn modules(files: &Graph) -> Graph {
    let mut modules = Graph::new();
    for (from, imported) in files {
        let from = module(Path::new(from));
        let imported = imported.iter().map(|to| module(Path::new(to))).filter(|to| *to != from);
        modules.entry(from.clone()).or_default().extend(imported);
    }
    modules
}

#[test]
fn dependencies_point_down() {
    let modules = modules(&graph());
    for (from, imported) in &modules {
        for to in imported {
            let allowed = if FLOOR.contains(&from.as_str()) || from == TOOLKIT {
                !is_area(to) && !SURFACE.contains(&to.as_str())
            } else if is_area(from) {
                !SURFACE.contains(&to.as_str())
            } else {
                true
            };
            assert!(allowed, "{from} uses {to}, which is above it");
        }
    }
    for alone in ["audit", "plan"] {
        let used: Vec<_> =
            modules[alone].iter().filter(|to| is_area(to) && *to != "user").collect();
        assert!(used.is_empty(), "{alone} calls {used:?}");
    }
}

#[test]
fn neither_modules_nor_files_import_each_other() {
    let files = graph();
    let modules = modules(&files);
    let libraries = crates().into_iter().map(|folder| imports(&folder, &sources(&folder)));
    for graph in [modules, files].into_iter().chain(libraries) {
        let found: Vec<_> = circles(&graph).iter().map(|one| described(&graph, one)).collect();
        assert!(found.is_empty(), "they import each other:{}", found.join("\n"));
    }
}

/// Dedicated databases are used by `tenancy` alone, through functions that the module lists. Each
/// folder of `tenancy` depends only on what does not depend on it.
#[test]
fn dedicated_databases_stand_behind_one_door() {
    let (mut places, graph) = (Graph::new(), graph());
    for (from, to) in graph.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to))) {
        let place = |file: &String| {
            let inside = file.strip_prefix("tenancy/")?;
            Some(inside.split('/').next().unwrap().to_owned())
        };
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            let imported = places.entry(from.clone()).or_default();
            imported.extend((from != to).then_some(to));
        } else {
            assert!(!to.starts_with("tenancy/dedicated/"), "{from} imports {to}");
        }
    }
    assert!(places["databases.rs"].contains("dedicated"), "{places:?}");
    let found: Vec<_> = circles(&places).iter().map(|one| described(&places, one)).collect();
    assert!(found.is_empty(), "they import each other:{}", found.join("\n"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tenancy/dedicated");
    let door = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut functions = 0;
    for path in sources(&folder) {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some((start, rest)) = line.split_once("fn ") else { continue };
            if ["pub ", "pub async "].contains(&start.trim_start()) {
                let name = rest.split(['(', '<']).next().unwrap();
                assert!(
                    door.contains(&format!("`{name}`")),
                    "{} lists no {name}",
                    folder.display()
                );
                functions += 1;
            }
        }
    }
    assert!((10..=20).contains(&functions), "{functions}");
}

#[test]
fn a_circle_is_found() {
    let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")];
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    assert_eq!(circles(&graph), [["a", "b", "c"].map(ToOwned::to_owned).into()]);
}

/// The sources of the other crates.
fn crates() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = fs::read_dir(root.join("crates")).unwrap();
    let libraries = libraries.map(|folder| folder.unwrap().path().join("src"));
    [root.join("entity/src"), root.join("migration/src")].into_iter().chain(libraries).collect()
}

fn described(graph: &Graph, circle: &BTreeSet<String>) -> String {
    let edges = circle.iter().flat_map(|from| graph[from].iter().map(move |to| (from, to)));
    let edges = edges.filter(|(_, to)| circle.contains(*to));
    edges.map(|(from, to)| format!("\n  {from} -> {to}")).collect::<Vec<_>>().concat()
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
fn the_documented_path_of_a_query_is_short_and_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let steps = page.lines().filter(|line| {
        line.split('|').nth(1).is_some_and(|number| number.trim().parse::<u32>().is_ok())
    });
    let files: Vec<_> = steps.map(|line| line.split('`').nth(1).unwrap()).collect();
    assert!((15..=25).contains(&files.len()), "{files:?}");
    for file in files {
        assert!(
            root.join(file).is_file(),
            "docs/architecture.md names {file}, which does not exist"
        );
    }
}

/// What a team adds stands in `src/app`, where updates of tenantry do not meet it. Areas of the
/// product may refer to each other.
#[test]
fn only_the_list_of_areas_and_the_demo_read_the_product() {
    let modules = modules(&graph());
    let is_of_product = |module: &str| module.split('/').next() == Some(APP);
    assert!(modules["areas"].contains(APP) && modules[APP].iter().any(|to| is_of_product(to)));
    for (from, imported) in modules.iter().filter(|(from, _)| !is_of_product(from)) {
        let read: Vec<_> = imported.iter().filter(|to| is_of_product(to)).collect();
        let may = ["areas", "cli"].contains(&from.as_str());
        assert!(read.is_empty() || may && read == [APP], "{from} reads {read:?}");
    }
}

/// The resource that comes with tenantry is one of the product. Texts may name it as an example.
#[test]
fn code_outside_the_product_does_not_name_its_resource() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for folder in ["src", "entity/src", "migration/src", "migration/functions"] {
        let folder = root.join(folder);
        let files = [files_of(&folder, "rs"), files_of(&folder, "sql")].concat();
        for path in files.iter().filter(|path| !path.starts_with(folder.join(APP))) {
            read += 1;
            for line in fs::read_to_string(path).unwrap().lines().map(str::trim_start) {
                let is_text = ["//", "--"].iter().any(|start| line.starts_with(start))
                    || line.contains("for example");
                let is_named = line.to_lowercase().contains("project");
                assert!(is_text || !is_named, "{}: {line}", path.display());
            }
        }
    }
    assert!(read > 300, "{read}");
}

/// Of two areas that declare the same, one would win without an error.
#[test]
fn each_declaration_of_an_area_is_the_only_one_of_its_name() {
    let fields = Areas::fields();
    for one in ["Query.plans", "Mutation.createProject", "Organization.projects"] {
        assert!(fields.iter().any(|field| field == one), "{one}: {fields:?}");
    }
    assert!(fields.iter().any(|field| field.starts_with("Subscription.")));
    for mut names in [
        fields,
        Permission::all().iter().map(|one| one.name().to_owned()).collect(),
        Limit::all().iter().map(|one| one.feature.to_owned()).collect(),
        NodeType::all().iter().map(|one| one.table.to_owned()).collect(),
        NodeType::all().iter().map(|one| one.name().into_owned()).collect(),
    ] {
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "declared twice: {names:?}");
    }
}

#[test]
fn requests_open_no_system_session() {
    let may = ["background", "cli", "billing/inbox.rs", "usage", "tenancy"];
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
