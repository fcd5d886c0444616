//! Fields of inputs that change a row: an omitted field stays unchanged.

use async_graphql::MaybeUndefined;

use crate::{
    edit::Edit,
    error::{Error, Result},
};

/// The change of a field that cannot be removed.
///
/// # Errors
///
/// [`Error::BadUserInput`] for null.
pub fn required<T>(field: &'static str, input: MaybeUndefined<T>) -> Result<Edit<T>> {
    match input {
        MaybeUndefined::Undefined => Ok(Edit::Keep),
        MaybeUndefined::Null => Err(Error::bad_input(field, "must not be null")),
        MaybeUndefined::Value(value) => Ok(Edit::Set(value)),
    }
}

/// The change of a field that null removes.
pub fn nullable<T>(input: MaybeUndefined<T>) -> Edit<Option<T>> {
    match input {
        MaybeUndefined::Undefined => Edit::Keep,
        MaybeUndefined::Null => Edit::Set(None),
        MaybeUndefined::Value(value) => Edit::Set(Some(value)),
    }
}
