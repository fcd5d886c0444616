//! What a resource adds to existing files.

use super::{
    resource::Resource,
    tree::{Text, Tree},
};
use crate::cli::Failure;

const STEPS: &str = "migration/src/app/mod.rs";
const AREAS: &str = "src/areas.rs";

/// Registers the resource.
pub(super) fn register(tree: &mut Tree, resource: &Resource) -> Result<(), Failure> {
    let (task, ty) = (resource.name.snake(), resource.name.pascal());
    let module = format!("m{}_{task}", resource.number);
    tree.edit(STEPS, |text| {
        match text.last_line("mod m") {
            Some(last) => text.insert_after(&last, &format!("\nmod {module};"))?,
            None => text.insert_after("\nuse crate::Step;\n", &format!("\nmod {module};\n"))?,
        }
        text.append_item("pub(crate) const STEPS: &[Step] =", "];", &format!("{module}::STEP"))
    })?;
    tree.edit("entity/src/lib.rs", |text| {
        text.insert_sorted("\nmod id;\n", "pub mod ", &format!("pub mod {task};"))?;
        text.insert_after("pub use id::{", &format!("{ty}Id, "))
    })?;
    let id = format!("    /// `app.{}`\n    {ty}Id,\n", resource.plural.snake());
    tree.edit("entity/src/id.rs", |text| text.append("\nids! {\n", "}\n", &id))?;
    let declaration = format!("pub mod {task};");
    tree.edit("src/lib.rs", |text| text.insert_sorted("\n// Areas.\n", "pub mod ", &declaration))?;
    tree.edit(AREAS, |text| areas(text, resource))?;
    let declaration = format!("mod {task};");
    tree.edit("tests/it/main.rs", |text| {
        text.insert_sorted("\nmod support;\n", "mod ", &declaration)
    })
}

fn areas(text: &mut Text, resource: &Resource) -> Result<(), Failure> {
    let (task, ty) = (resource.name.snake(), resource.name.pascal());
    let mut used = format!("{ty}, {ty}Area");
    text.append("\nareas! {\n", "}\n\n", &format!("        {ty}Area,\n"))?;
    let own = format!("    {ty} {{ FieldsOf{ty} }} = NoFields;\n");
    text.append("\nextended! {\n", "}\n", &own)
        .or_else(|_| text.append("\nextended! {\n", "}", &own))?;
    if let Some(parent) = &resource.parent {
        let fields = format!("{}Of{}", resource.plural.pascal(), parent.target.pascal());
        let start = format!("    {} {{ ", parent.target.pascal());
        let line = text.line(&start).ok_or_else(|| {
            Failure::new(format!("{AREAS} adds no fields to `{}`", parent.target.pascal()))
        })?;
        let extended = match line.strip_suffix(" = NoFields;") {
            Some(name) => format!("{name} = {fields};"),
            None => line.replacen(';', &format!(", {fields};"), 1),
        };
        text.replace(&line, &extended)?;
        used = format!("{used}, {fields}");
    }
    text.insert_after("\nuse crate::{", &format!("{task}::{{{used}}},"))
}
