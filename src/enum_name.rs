//! The names of enums in the schema, for every layer that reports one.

use async_graphql::resolver_utils::EnumType;

/// The name of an enum value in the schema.
#[must_use]
pub fn enum_name<T: EnumType>(value: T) -> &'static str {
    T::items().iter().find(|item| item.value == value).map_or("", |item| item.name)
}
