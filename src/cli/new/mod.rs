//! `tenantry new`: writes the code of a new resource into the product of a checkout, as explicit
//! code that is meant to be edited. `project` is what it writes: a test compares them.

mod field;
mod imports;
mod name;
mod register;
mod relation;
mod resource;
mod sample;
mod stored;
mod template;
mod test_parts;
mod tree;
mod typed;
mod written;

use clap::Subcommand;

use self::{
    field::{Field, Kind},
    name::Name,
    register::register,
    relation::Relation,
    resource::Resource,
    tree::Tree,
};
use super::{Failure, say};

/// Write the code of a new resource into your checkout of tenantry.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Resource(Arguments),
}

/// Write a resource that belongs to organizations: its table, entity, API and test.
///
/// For example: tenantry new resource task --belongs-to project --field title:string! --field
/// due_on:date --references assignee:member --limit tasks
#[derive(Debug, clap::Args)]
struct Arguments {
    /// The name in the singular, for example task or time_entry.
    name: String,

    /// The plural, if it is irregular.
    #[arg(long)]
    plural: Option<String>,

    /// A field: NAME:KIND, or NAME:KIND! if it is required. Kinds: string, string(100), text,
    /// text(5000), integer, boolean, date, timestamp, uuid, json, 'enum(open|closed)'.
    #[arg(long = "field", required = true)]
    fields: Vec<String>,

    /// The resource to which each belongs, and with which it is deleted, for example project.
    #[arg(long)]
    belongs_to: Option<String>,

    /// Another object to which each may refer: NAME:RESOURCE, for example assignee:member.
    #[arg(long)]
    references: Vec<String>,

    /// The feature of plans that limits the number, for example tasks.
    #[arg(long)]
    limit: Option<String>,

    /// Print the files, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        let What::Resource(arguments) = self.what;
        let mut tree = Tree::find()?;
        let resource = arguments.resource(&tree)?;
        require_free(&tree, &resource)?;
        create(&mut tree, &resource)?;
        register(&mut tree, &resource)?;
        tree.summary().iter().for_each(say);
        if !arguments.dry_run {
            tree.write()?;
            say(next_steps(&resource));
        }
        Ok(())
    }
}

impl Arguments {
    fn resource(&self, tree: &Tree) -> Result<Resource, Failure> {
        let name = Name::parse("resource", &self.name)?;
        let plural = self.plural.as_deref().map(|plural| Name::parse("plural", plural));
        let plural = plural.transpose()?.unwrap_or_else(|| name.plural());
        let fields = self.fields.iter().map(|field| Field::parse(field, &name));
        let parent = self.belongs_to.as_deref().map(|parent| relation(tree, parent, parent, true));
        let references = self.references.iter().map(|text| {
            let form = format!("the reference `{text}` must have the form assignee:member");
            let (name, target) = text.split_once(':').ok_or_else(|| Failure::new(form))?;
            if target.ends_with('!') {
                return Err(Failure::new("a reference is never required. Use --belongs-to"));
            }
            relation(tree, name, target, false)
        });
        let limit = self.limit.as_deref().map(|limit| Name::parse("limit", limit));
        let steps = tree
            .names("migration/src/app")
            .into_iter()
            .filter_map(|name| name.strip_prefix('m')?.split_once('_')?.0.parse::<u32>().ok());
        Ok(Resource {
            fields: fields.collect::<Result<_, _>>()?,
            parent: parent.transpose()?,
            references: references.collect::<Result<_, _>>()?,
            limit: limit.transpose()?,
            number: format!("{:04}", steps.max().unwrap_or_default() + 1),
            name,
            plural,
        })
    }
}

/// Finds the object to which a resource refers.
fn relation(tree: &Tree, name: &str, target: &str, required: bool) -> Result<Relation, Failure> {
    let (name, target) = (Name::parse("reference", name)?, Name::known("resource", target)?);
    let unknown = || {
        let (name, resource) = (target.snake(), target.pascal());
        Failure::new(format!(
            "there is no resource `{name}` that belongs to organizations: neither src/app/{name}/loader.rs nor src/{name}/loader.rs has {resource}ById for such a row"
        ))
    };
    let of_product = tree.exists(&format!("src/app/{}", target.snake()));
    let folder = if of_product { "app/" } else { "" };
    let loader =
        tree.find_file(&format!("src/{folder}{}/loader.rs", target.snake())).ok_or_else(unknown)?;
    let (_, by_id) =
        loader.split_once(&format!("impl Loader<{}ById>", target.pascal())).ok_or_else(unknown)?;
    let between = |text: &str, start: &str, end: &str| {
        Some(text.split_once(start)?.1.split_once(end)?.0.trim().to_owned())
    };
    let entity = between(by_id, "type Value = ", "::Model;").ok_or_else(unknown)?;
    let row = tree.find_file(&format!("entity/src/{folder}{entity}.rs")).unwrap_or_default();
    if !row.contains("pub organization_id: OrganizationId,") {
        return Err(unknown());
    }
    let table = between(&row, "table_name = \"", "\"").ok_or_else(unknown)?;
    let resource = target.plural();
    let test = format!("tests/it/{folder}{}.rs", target.snake());
    let test = tree.find_file(&test).unwrap_or_default();
    // A list of the organization, which is named like the table of a generated resource.
    let list = if entity == target.snake() { Name::known("table", &table)? } else { resource };
    let has_creator = test.contains("\npub async fn create(");
    let list = list.camel();
    Ok(Relation { name, target, required, of_product, entity, table, list, has_creator })
}

/// Refuses names that exist.
fn require_free(tree: &Tree, resource: &Resource) -> Result<(), Failure> {
    let (task, tasks) = (resource.name.snake(), resource.plural.snake());
    let taken = |what: String| Failure::new(format!("{what} exists already. Choose another name."));
    if task == tasks {
        return Err(Failure::new(
            "the plural must differ from the name: give another with --plural",
        ));
    }
    let area = format!("src/app/{task}");
    if tree.exists(&area) {
        return Err(taken(area));
    }
    let schema = crate::schema::sdl();
    let enums = resource.fields.iter().filter_map(|field| match &field.kind {
        Kind::Enum(_, ty) => Some(ty.clone()),
        _ => None,
    });
    let ty = resource.name.pascal();
    let types = [ty.clone(), format!("{ty}Change"), format!("{ty}Connection")];
    for name in types.into_iter().chain(enums) {
        let kinds = ["type", "enum", "interface", "scalar", "union", "input"];
        let is_declared = |line: &str| {
            let mut words = line.split_whitespace();
            words.next().is_some_and(|word| kinds.contains(&word)) && words.next() == Some(&name)
        };
        if schema.lines().any(is_declared) {
            return Err(taken(format!("the type {name}")));
        }
    }
    let mut names: Vec<_> = resource.fields.iter().map(|field| field.name.snake()).collect();
    names.extend(resource.relations().map(|relation| relation.name.snake()));
    names.sort_unstable();
    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next)
    {
        return Err(Failure::new(format!("two fields are named `{name}`")));
    }
    // Tables of tenantry without an entity are in the baseline, in any schema.
    let [entity, table] = [format!("table_name = \"{tasks}\""), format!(".{tasks} (")];
    for folder in ["entity/src", "entity/src/app", "migration/src/m0001_baseline"] {
        for file in tree.names(folder) {
            let text = tree.find_file(&format!("{folder}/{file}")).unwrap_or_default();
            if text.contains(&entity) || text.contains(&table) {
                return Err(taken(format!("the table {tasks}")));
            }
        }
    }
    Ok(())
}

/// Adds the files of the resource.
fn create(tree: &mut Tree, resource: &Resource) -> Result<(), Failure> {
    let (values, task) = (resource.values(), resource.name.snake());
    let step = format!("migration/src/app/m{}_{task}.rs", resource.number);
    let area = |name: &str| format!("src/app/{task}/{name}.rs");
    for (path, template) in [
        (step, include_str!("templates/step.txt")),
        (format!("entity/src/app/{task}.rs"), include_str!("templates/entity.txt")),
        (area("mod"), include_str!("templates/mod.txt")),
        (area("area"), include_str!("templates/area.txt")),
        (area("graphql"), include_str!("templates/graphql.txt")),
        (area("mutation_graphql"), include_str!("templates/mutation_graphql.txt")),
        (area("ops"), include_str!("templates/ops.txt")),
        (area("loader"), include_str!("templates/loader.txt")),
        (format!("tests/it/app/{task}.rs"), include_str!("templates/test.txt")),
    ] {
        tree.create(path, &values.fill(template))?;
    }
    Ok(())
}

fn next_steps(resource: &Resource) -> String {
    let task = resource.name.snake();
    format!(
        "
Next:
  bash .ci/generate     # writes what is generated from the code: read the difference
  cargo test --test it -- app:: isolation::
  cargo run             # creates the table in the demo
Edit what the resource should do differently: its limits and rules in src/app/{task}/ops.rs, its
roles in src/app/{task}/area.rs."
    )
}
