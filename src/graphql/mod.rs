//! The toolkit that areas write GraphQL with: context, loaders, connections, and the guards around
//! a document.

mod connection;
mod context;
pub mod document;
mod error;
mod lexer;
mod limits;
mod loader;
mod merge;
mod operation_cache;
mod size;
mod validation;

use async_graphql::{TypeDirective, resolver_utils::EnumType};

pub use connection::{Connection, STATEMENT, connection, list_cost, page_cost};
pub use context::{ContextExt, Event, One, one, parse_id};
pub use error::{RETRY_AFTER, present, refusal};
pub use limits::{Limits, Refusal};
pub use loader::{Loaders, Queue, Reader};
pub use operation_cache::OperationCache;
pub use validation::Validator;

use crate::auth::Permission;

/// The name of an enum's value in the schema.
#[must_use]
pub fn enum_name<T: EnumType>(value: T) -> &'static str {
    T::items().iter().find(|item| item.value == value).map_or("", |item| item.name)
}

/// A count as GraphQL's `Int`, which has 32 bits; what is more is shown as the most.
#[must_use]
pub fn to_int(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(if count < 0 { i32::MIN } else { i32::MAX })
}

/// The field needs more than membership: without the permission it is null, with the error
/// `FORBIDDEN`.
#[TypeDirective(location = "FieldDefinition", name = "requiresPermission")]
#[expect(non_snake_case, reason = "the macro makes a module of it, named as the directive")]
pub fn requires_permission(permission: Permission) {}
