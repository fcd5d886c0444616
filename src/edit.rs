//! What an update does to a field of a row.

use sea_orm::{ActiveValue, Value};

use crate::error::Result;

/// The change of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<T> {
    /// The field keeps its value.
    Keep,
    /// The field gets this value.
    Set(T),
}

impl<T> Edit<T> {
    /// Converts the new value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Edit<U> {
        match self {
            Self::Keep => Edit::Keep,
            Self::Set(value) => Edit::Set(convert(value)),
        }
    }

    /// Parses the new value.
    ///
    /// # Errors
    ///
    /// Those of `parse`.
    pub fn try_map<U>(self, parse: impl FnOnce(T) -> Result<U>) -> Result<Edit<U>> {
        Ok(match self {
            Self::Keep => Edit::Keep,
            Self::Set(value) => Edit::Set(parse(value)?),
        })
    }
}

impl<T: Into<Value> + PartialEq> Edit<T> {
    /// Changes the column, unless it has this value already.
    pub fn apply_to(self, column: &mut ActiveValue<T>) {
        if let Self::Set(value) = self {
            column.set_if_not_equals(value);
        }
    }
}
