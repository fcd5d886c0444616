//! The resources of the areas, as they are declared, and inputs for their mutations: tests that try
//! every resource need no list of them.

use apollo_compiler::{Schema, schema::ExtendedType};
use serde_json::{Value, json};
use tenantry::{action::Action, declared::Declared as _, graphql::NodeType, schema::sdl};

/// The value of each field of the type `UUID`, which is not the id of an object.
pub const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// A type whose objects clients create, update, delete and list.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The type, for example `Task`.
    pub name: String,
    /// As in the audit log, for example `task`.
    pub kind: String,
    /// The field with this object, for example `task`.
    pub field: String,
    /// The table, without its schema.
    pub table: &'static str,
}

/// The resources, in the order of their areas. `Organization` is the owner of all.
pub fn resources() -> Vec<Resource> {
    let schema = Schema::parse(sdl(), "schema.graphql").unwrap();
    let organization = schema.get_object("Organization").unwrap();
    let resource = |node: &NodeType| {
        let name = format!("{node:?}");
        let field = name[..1].to_lowercase() + &name[1..];
        let kind = field.chars().fold(String::new(), |kind, char| match char {
            'A'..='Z' => format!("{kind}_{}", char.to_ascii_lowercase()),
            _ => format!("{kind}{char}"),
        });
        let recorded =
            |what: &str| Action::all().iter().any(|one| one.name() == format!("{kind}.{what}"));
        let is_resource =
            name != "Organization" && ["created", "updated", "deleted"].into_iter().all(recorded);
        let connection = format!("{name}Connection");
        let is_listed = organization
            .fields
            .values()
            .any(|list| list.ty.inner_named_type().as_str() == connection);
        (is_resource && is_listed).then_some(Resource { name, kind, field, table: node.table })
    };
    NodeType::all().iter().filter_map(resource).collect()
}

/// The resources, without the one for which tests are written by hand.
pub fn further_resources() -> Vec<Resource> {
    resources().into_iter().filter(|resource| resource.name != "Project").collect()
}

impl Resource {
    /// Its mutations, each with the action that it records.
    pub fn mutations(&self) -> [(String, String); 3] {
        let Self { name, kind, .. } = self;
        [("create", "created"), ("update", "updated"), ("delete", "deleted")]
            .map(|(verb, done)| (format!("{verb}{name}"), format!("{kind}.{done}")))
    }
}

/// A value for each field of the input of a mutation: `ids` chooses those of ids, and may leave out
/// one that is not required; the others follow from the type.
pub fn input(
    mutation: &str,
    text: &str,
    mut ids: impl FnMut(&str, bool) -> Option<Value>,
) -> Value {
    let schema = Schema::parse(sdl(), "schema.graphql").unwrap();
    let name = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
    let Some(ExtendedType::InputObject(input)) = schema.types.get(name.as_str()) else {
        panic!("{mutation} has no {name}");
    };
    let values = input.fields.values().filter_map(|field| {
        let value = match field.ty.inner_named_type().as_str() {
            "ID" => ids(&field.name, field.is_required())?,
            "String" => json!(text),
            "Boolean" => json!(true),
            "Int" => json!(7),
            "Float" => json!(1.5),
            "Date" => json!("2031-02-28"),
            "DateTime" => json!("2031-02-28T12:00:00Z"),
            "UUID" => json!(UUID),
            "JSON" => json!({ "of": text }),
            name => match schema.types.get(name) {
                Some(ExtendedType::Enum(values)) => {
                    json!(values.values.keys().next().unwrap().as_str())
                }
                _ => panic!("choose a value of the type {name}"),
            },
        };
        Some((field.name.to_string(), value))
    });
    Value::Object(values.collect())
}
