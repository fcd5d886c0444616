//! The traits of root fields. Each is declared as a directive at its field, in the field's area,
//! and read from the schema once, when the server starts.

use std::collections::{HashMap, HashSet};

use apollo_compiler::{
    Schema,
    ast::{FieldDefinition, OperationType, Value},
};
use async_graphql::{Enum, TypeDirective, resolver_utils::EnumType};

use crate::auth::Permission;

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

/// The field requires a permission beyond membership. Without it the field is null, with the error
/// `FORBIDDEN`.
#[TypeDirective(location = "FieldDefinition", name = "requiresPermission")]
pub fn requires_permission(permission: Permission) {}

/// The mutation must be the only one of its operation. Only `query` and `__typename` may accompany
/// it.
#[TypeDirective(location = "FieldDefinition", name = "alone")]
pub fn alone(
    #[graphql(desc = "The organization, or the account, that the mutation changes.")]
    target: MutationTarget,
) {
}

/// The field can be used to guess or to send e-mail. Each user and each client address has a
/// limited number of attempts per minute, successful or not.
#[TypeDirective(location = "FieldDefinition", name = "rateLimited")]
pub fn rate_limited() {}

/// The mutation also runs when the month's API calls are used up, unless its operation does
/// anything else.
#[TypeDirective(location = "FieldDefinition", name = "allowedOverCallLimit")]
pub fn allowed_over_call_limit() {}

/// The subscription sends an event after each committed change of this kind.
#[TypeDirective(location = "FieldDefinition", name = "onChange")]
pub fn on_change(#[graphql(desc = "The kind of change.")] topic: String) {}

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

/// The traits of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionTraits {
    /// The topic of the changes that it sends.
    pub topic: String,
    /// The permission that it requires.
    pub permission: Permission,
}

/// The traits of the root fields, by name.
#[derive(Debug)]
pub(super) struct RootFields {
    mutations: HashMap<String, MutationTraits>,
    rate_limited_queries: HashSet<String>,
    subscriptions: HashMap<String, SubscriptionTraits>,
}

impl RootFields {
    /// Reads the directives of the schema.
    ///
    /// # Errors
    ///
    /// Names the field whose directive is missing or not understood.
    pub(super) fn read(schema: &Schema) -> Result<Self, String> {
        let mutations = fields(schema, OperationType::Mutation)
            .map(|field| Ok((field.name.to_string(), of_mutation(field)?)));
        let subscriptions = fields(schema, OperationType::Subscription)
            .map(|field| Ok((field.name.to_string(), of_subscription(field)?)));
        let queries = fields(schema, OperationType::Query).filter(|field| is_rate_limited(field));
        Ok(Self {
            rate_limited_queries: queries.map(|field| field.name.to_string()).collect(),
            mutations: mutations.collect::<Result<_, String>>()?,
            subscriptions: subscriptions.collect::<Result<_, String>>()?,
        })
    }

    /// The traits of a mutation. A field without directives has none.
    pub(super) fn mutation(&self, name: &str) -> MutationTraits {
        self.mutations.get(name).copied().unwrap_or_default()
    }

    /// Whether each use of a query counts as an attempt.
    pub(super) fn is_rate_limited_query(&self, name: &str) -> bool {
        self.rate_limited_queries.contains(name)
    }

    /// The traits of a subscription.
    pub(super) fn subscription(&self, name: &str) -> Option<&SubscriptionTraits> {
        self.subscriptions.get(name)
    }
}

fn fields(schema: &Schema, root: OperationType) -> impl Iterator<Item = &FieldDefinition> {
    let root = schema.root_operation(root).and_then(|name| schema.get_object(name));
    root.into_iter().flat_map(|root| root.fields.values()).map(|field| &***field)
}

fn of_mutation(field: &FieldDefinition) -> Result<MutationTraits, String> {
    let target = argument(field, &alone).map(|value| {
        enum_value(value).ok_or_else(|| format!("{}: {value} is not a target", field.name))
    });
    Ok(MutationTraits {
        alone: target.transpose()?,
        rate_limited: is_rate_limited(field),
        allowed_over_call_limit: field.directives.has(&allowed_over_call_limit.name()),
    })
}

fn is_rate_limited(field: &FieldDefinition) -> bool {
    field.directives.has(&rate_limited.name())
}

fn of_subscription(field: &FieldDefinition) -> Result<SubscriptionTraits, String> {
    let topic = argument(field, &on_change).and_then(|value| value.as_str());
    let topic = topic.ok_or_else(|| format!("{} has no @onChange", field.name))?;
    let permission = match argument(field, &requires_permission) {
        Some(value) => enum_value(value)
            .ok_or_else(|| format!("{}: {value} is not a permission", field.name))?,
        None => Permission::OrganizationRead,
    };
    Ok(SubscriptionTraits { topic: topic.to_owned(), permission })
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
