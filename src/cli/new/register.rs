//! What a resource adds to existing files.

use super::{
    resource::Resource,
    tree::{Text, Tree},
};
use crate::cli::Failure;

const STEPS: &str = "migration/src/app/mod.rs";
const AREAS: &str = "src/app/mod.rs";

/// Registers the resource.
pub(super) fn register(tree: &mut Tree, resource: &Resource) -> Result<(), Failure> {
    let (task, ty) = (resource.name.snake(), resource.name.pascal());
    let step = format!("m{}_{task}", resource.number);
    tree.edit(STEPS, |text| {
        text.add_line("mod m", &format!("mod {step};"))?;
        text.append_item("pub(crate) const STEPS: &[Step] =", "];", &format!("{step}::STEP"))
    })?;
    let module = format!("pub mod {task};");
    let id = format!("    /// `app.{}`\n    {ty}Id,\n", resource.plural.snake());
    tree.edit("entity/src/app/mod.rs", |text| {
        text.add_line("pub mod ", &module)?;
        text.append("\nids! {\n", "}\n", &id)
    })?;
    tree.edit(AREAS, |text| {
        text.add_line("pub mod ", &module)?;
        areas(text, resource)
    })?;
    tree.edit("tests/it/app/mod.rs", |text| text.add_line("mod ", &format!("mod {task};")))
}

fn areas(text: &mut Text, resource: &Resource) -> Result<(), Failure> {
    let (task, ty) = (resource.name.snake(), resource.name.pascal());
    text.append("\nareas! {\n", "}\n", &format!("        {task}::{ty}Area,\n"))?;
    let own = format!("    {task}::{ty} {{ FieldsOf{ty} }} = NoFields;\n");
    text.append("\nextended! {\n", "}\n", &own)?;
    let Some(parent) = &resource.parent else { return Ok(()) };
    let fields = format!("{task}::{}Of{}", resource.plural.pascal(), parent.target.pascal());
    let module =
        if parent.of_product { format!("{}::", parent.target.snake()) } else { String::new() };
    let extended = format!("{module}{}", parent.target.pascal());
    let line = text
        .line(&format!("    {extended} {{ "))
        .ok_or_else(|| Failure::new(format!("{AREAS} adds no fields to `{extended}`")))?;
    let added = match line.strip_suffix(" = NoFields;") {
        Some(name) => format!("{name} = {fields};"),
        None => line.replacen(';', &format!(", {fields};"), 1),
    };
    text.replace(&line, &added)
}
