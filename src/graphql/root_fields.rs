//! The traits of root fields. Each is declared as a directive at its field, in the field's area,
//! and read from the schema once, when the server starts.

use std::collections::HashMap;

use apollo_compiler::{
    Schema,
    ast::{FieldDefinition, OperationType, Value},
};
use async_graphql::{Enum, TypeDirective, resolver_utils::EnumType};

/// The organization, or the account, that a mutation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum MutationTarget {
    /// The organization of the request.
    Requested,
    /// An organization that the mutation creates. The request needs none.
    NewOrganization,
    /// The organization that sent the invitation. The request needs none.
    Invited,
    /// The account of the caller. The request needs no organization.
    User,
}

/// The mutation must be the only one of its operation; only `query` and `__typename` may stand next
/// to it.
#[TypeDirective(location = "FieldDefinition", name = "alone")]
pub fn alone(
    #[graphql(desc = "The organization, or the account, that the mutation changes.")]
    target: MutationTarget,
) {
}

/// The mutation can be used to guess or to send e-mail. A user, and a client address, have a
/// limited number of attempts a minute, successful or not.
#[TypeDirective(location = "FieldDefinition", name = "rateLimited")]
pub fn rate_limited() {}

/// The mutation also runs when the month's API calls are used up, unless its operation does
/// anything else.
#[TypeDirective(location = "FieldDefinition", name = "allowedOverCallLimit")]
pub fn allowed_over_call_limit() {}

/// The traits of a mutation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MutationTraits {
    /// What it changes, if it must be the only mutation of its operation. Other mutations change
    /// the organization of the request.
    pub alone: Option<MutationTarget>,
    /// Whether each use counts as an attempt.
    pub rate_limited: bool,
    /// Whether it also runs when the month's API calls are used up.
    pub allowed_over_call_limit: bool,
}

/// The traits of the root fields, by name.
#[derive(Debug)]
pub(super) struct RootFields {
    mutations: HashMap<String, MutationTraits>,
}

impl RootFields {
    /// Reads the directives of the schema.
    ///
    /// # Errors
    ///
    /// Names the field whose directive is not understood.
    pub(super) fn read(schema: &Schema) -> Result<Self, String> {
        let mutations = fields(schema, OperationType::Mutation);
        let mutations = mutations.map(|field| Ok((field.name.to_string(), traits(field)?)));
        Ok(Self { mutations: mutations.collect::<Result<_, String>>()? })
    }

    /// The traits of a mutation. A field without directives has none.
    pub(super) fn mutation(&self, name: &str) -> MutationTraits {
        self.mutations.get(name).copied().unwrap_or_default()
    }
}

fn fields(schema: &Schema, root: OperationType) -> impl Iterator<Item = &FieldDefinition> {
    let root = schema.root_operation(root).and_then(|name| schema.get_object(name));
    root.into_iter().flat_map(|root| root.fields.values()).map(|field| &***field)
}

fn traits(field: &FieldDefinition) -> Result<MutationTraits, String> {
    let target = argument(field, &alone).map(|value| {
        enum_value(value).ok_or_else(|| format!("{}: {value} is not a target", field.name))
    });
    Ok(MutationTraits {
        alone: target.transpose()?,
        rate_limited: field.directives.has(&rate_limited.name()),
        allowed_over_call_limit: field.directives.has(&allowed_over_call_limit.name()),
    })
}

/// The argument of a directive that has exactly one, if the field has the directive.
fn argument<'field>(
    field: &'field FieldDefinition,
    directive: &impl TypeDirective,
) -> Option<&'field Value> {
    let applied = field.directives.get(&directive.name())?;
    applied.arguments.first().map(|argument| &*argument.value)
}

fn enum_value<T: EnumType>(value: &Value) -> Option<T> {
    let name = value.as_enum()?;
    T::items().iter().find(|item| item.name == name.as_str()).map(|item| item.value)
}
