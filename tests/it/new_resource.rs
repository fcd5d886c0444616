//! `tenantry new resource`: what it writes, what it refuses, and that `project` is what it writes.
//! `.ci/new-resource` compiles and tests what it writes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::support::process::{Output, failed, run, succeeded, tenantry};

const GADGET: [&str; 15] = [
    "gadget",
    "--belongs-to",
    "project",
    "--field",
    "title:string!",
    "--field",
    "done:boolean!",
    "--field",
    "due_on:date",
    "--field",
    "state:enum(open|in_progress)!",
    "--references",
    "assignee:member",
    "--limit",
    "gadgets",
];

/// A copy of the checkout, without what is built.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["entity/src", "migration/src", "src", "tests/it"] {
        copy_folder(&root.join(part), &folder.path().join(part));
    }
    fs::copy(root.join("rustfmt.toml"), folder.path().join("rustfmt.toml")).unwrap();
    folder
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn new_resource(folder: &TempDir, arguments: &[&str]) -> Output {
    run(tenantry().current_dir(folder.path().join("src")).args(["new", "resource"]).args(arguments))
}

/// Every file below a folder, with its text.
fn texts(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_new_resource_is_written_and_registered_as_formatted_code() {
    let folder = copy();
    let before = texts(folder.path());
    let planned = new_resource(&folder, &[&GADGET[..], &["--dry-run"]].concat());
    let planned = succeeded(&planned).to_owned();
    assert_eq!(texts(folder.path()), before, "a dry run writes nothing");
    let written = new_resource(&folder, &GADGET);
    let gizmo = ["gizmo", "--belongs-to", "gadget", "--field", "body:text!"];
    assert!(succeeded(&written).starts_with(&planned), "{planned}");
    succeeded(&new_resource(&folder, &gizmo));
    let after = texts(folder.path());
    let edited: Vec<_> = before.iter().filter(|(path, text)| after[*path] != **text).collect();
    let edited: Vec<_> = edited
        .iter()
        .map(|(path, _)| path.strip_prefix(folder.path()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        edited,
        [
            "entity/src/app/mod.rs",
            "migration/src/app/mod.rs",
            "src/app/mod.rs",
            "tests/it/app/mod.rs"
        ]
    );
    let created = after.keys().filter(|path| !before.contains_key(*path));
    let apart = ["entity/src/app", "migration/src/app", "src/app", "tests/it/app"];
    for path in created.map(|path| path.strip_prefix(folder.path()).unwrap()) {
        assert!(apart.iter().any(|place| path.starts_with(place)), "{}", path.display());
    }
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    let steps = read("migration/src/app/mod.rs");
    let at = |name: &str| steps.find(&format!("_{name}::STEP")).expect(&steps);
    assert!(at("project") < at("gadget") && at("gadget") < at("gizmo"), "{steps}");
    // A second child of the same parent.
    succeeded(&new_resource(
        &folder,
        &["widget", "--belongs-to", "project", "--field", "note:text"],
    ));
    let areas = read("src/app/mod.rs");
    for line in [
        "gadget::GadgetsOfProject, widget::WidgetsOfProject;",
        "    gadget::Gadget { FieldsOfGadget } = gizmo::GizmosOfGadget;",
        "    gizmo::Gizmo { FieldsOfGizmo } = NoFields;",
    ] {
        assert!(areas.contains(line), "{areas}");
    }
    for (path, text) in texts(folder.path()) {
        let is_new = !before.contains_key(&path);
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().count();
        assert!(!is_new || lines <= 400 && text.starts_with("//! "), "{}: {lines}", path.display());
        assert!(!is_new || text.lines().all(|line| line.len() <= 100), "{}", path.display());
    }
}

#[test]
fn a_refused_resource_leaves_everything_as_it_was() {
    let folder = copy();
    let before = texts(folder.path());
    for (arguments, reason) in [
        (&["project", "--field", "name:string!"][..], "src/app/project exists already"),
        (&["Task", "--field", "name:string!"], "must have the form due_on"),
        (&["plan_price", "--field", "name:string!"], "exists already"),
        (&["placement", "--field", "name:string!"], "the table placements exists already"),
        (
            &["series", "--plural", "series", "--field", "name:string!"],
            "give another with --plural",
        ),
        (&["gadget", "--field", "name:number"], "has the kind `number`. Kinds: string"),
        (&["gadget", "--field", "name"], "must have the form title:string!"),
        (&["gadget", "--field", "order:integer"], "is a reserved word"),
        (
            &["gadget", "--field", "created_at:date"],
            "every resource has the field `created_at` already",
        ),
        (&["gadget", "--field", "a:date", "--field", "a:text"], "two fields are named `a`"),
        (&["gadget", "--field", "a:date", "--belongs-to", "boat"], "there is no resource `boat`"),
        (
            &["gadget", "--field", "a:date", "--references", "by:user"],
            "there is no resource `user`",
        ),
        (
            &["gadget", "--field", "a:date", "--references", "member"],
            "must have the form assignee:member",
        ),
    ] {
        failed(&new_resource(&folder, arguments), reason);
    }
    assert_eq!(texts(folder.path()), before);
    // A list that was moved.
    let areas = folder.path().join("src/app/mod.rs");
    let text = fs::read_to_string(&areas).unwrap();
    fs::write(&areas, text.replace("areas! {", "regions! {")).unwrap();
    let before = texts(folder.path());
    failed(&new_resource(&folder, &GADGET), "src/app/mod.rs has no line `areas! {`");
    assert_eq!(texts(folder.path()), before);
}

/// The lines of code of a resource's area and rows, without documentation.
fn code(folder: &TempDir, resource: &str) -> Vec<String> {
    let mut files = texts(&folder.path().join("src/app").join(resource));
    let rows = folder.path().join(format!("entity/src/app/{resource}.rs"));
    files.insert(rows.clone(), fs::read(rows).unwrap());
    let text = files.into_values().flatten().collect();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().map(str::trim);
    let is_code =
        |line: &&str| !line.is_empty() && !line.starts_with("///") && !line.starts_with("//!");
    lines.filter(is_code).map(ToOwned::to_owned).collect()
}

/// The lines that others do not have, or not as often.
fn without(mut lines: Vec<String>, others: &[String]) -> Vec<String> {
    for other in others {
        if let Some(at) = lines.iter().position(|line| line == other) {
            lines.remove(at);
        }
    }
    lines
}

#[test]
fn project_is_what_the_command_writes() {
    let folder = copy();
    // A name of the same length, so that lines break at the same places.
    let arguments = [
        "product",
        "--field",
        "name:string(100)!",
        "--field",
        "description:text",
        "--limit",
        "products",
    ];
    succeeded(&new_resource(&folder, &arguments));
    let renamed = |line: String| {
        line.replace("product", "project")
            .replace("Product", "Project")
            .replace("PRODUCT", "PROJECT")
    };
    let written: Vec<_> = code(&folder, "product").into_iter().map(renamed).collect();
    let project = code(&folder, "project");
    // A total without a parent is a struct; that of projects knows the creator.
    assert_eq!(
        without(written.clone(), &project),
        [
            "pub struct ProjectTotal;",
            "let count = ops::count(ctx.session()?).await?;",
            "Ok(to_int(count.try_into().unwrap_or(i64::MAX)))",
            "Ok(connection(ops::list(ctx.session()?, &page).await?, ProjectTotal))",
            "pub use graphql::Project;",
            "use entity::app::{ProjectId, project};",
        ]
    );
    // The projects of each member, which are a list of children as with `--belongs-to`.
    let more = without(project, &written);
    let declares =
        |line: &&String| ["fn ", "struct ", "enum "].iter().any(|word| line.contains(word));
    assert_eq!(
        more.iter().filter(declares).collect::<Vec<_>>(),
        [
            "pub enum ProjectTotal {",
            "pub struct ProjectsOfMember(UserId);",
            "fn from(member: &Member) -> Self {",
            "async fn projects(",
            "pub(super) struct CreatedBy;",
            "fn all(session: &Session) -> Result<Select<project::Entity>> {",
            "fn columns() -> [project::Column; 3] {",
            "fn parent(row: &project::Model) -> Option<Uuid> {",
        ]
    );
}
