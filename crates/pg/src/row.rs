//! Rows of a result, and their values by name or position.

use tokio_postgres::{
    Column,
    row::RowIndex,
    types::{FromSql, FromSqlOwned},
};

use crate::{Result, Typed};

/// A row of a result.
#[derive(Debug)]
pub struct Row(pub(crate) tokio_postgres::Row);

impl Row {
    /// The value of a column, given by name or position.
    ///
    /// # Errors
    ///
    /// When there is no such column, or its value has another type.
    pub fn try_get<'row, I, T>(&'row self, column: I) -> Result<T>
    where
        I: RowIndex + std::fmt::Display,
        T: FromSql<'row>,
    {
        Ok(self.0.try_get(column)?)
    }

    pub(crate) fn columns(&self) -> &[Column] {
        self.0.columns()
    }
}

/// A type that a row can be read as: the row itself, its only value, or a tuple of its values.
pub trait FromRow: Sized {
    /// Reads a row.
    ///
    /// # Errors
    ///
    /// When a value is missing or has another type.
    fn from_row(row: Row) -> Result<Self>;
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self> {
        Ok(row)
    }
}

impl<T: Typed + FromSqlOwned> FromRow for T {
    fn from_row(row: Row) -> Result<Self> {
        row.try_get(0)
    }
}

impl<T: FromSqlOwned> FromRow for Option<T> {
    fn from_row(row: Row) -> Result<Self> {
        row.try_get(0)
    }
}

impl<T> FromRow for Vec<T>
where
    Self: FromSqlOwned,
{
    fn from_row(row: Row) -> Result<Self> {
        row.try_get(0)
    }
}

macro_rules! tuple {
    ($($value:ident $at:literal),*) => {
        impl<$($value: FromSqlOwned),*> FromRow for ($($value,)*) {
            fn from_row(row: Row) -> Result<Self> {
                Ok(($(row.try_get::<_, $value>($at)?,)*))
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
