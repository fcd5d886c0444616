//! Parameters whose type follows from their type in Rust. PostgreSQL would otherwise infer it from
//! the context in the statement.

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// A type in Rust that stands for one type in PostgreSQL.
pub trait Typed: ToSql + Sync {
    /// The type.
    const TYPE: Type;
    /// The type of arrays of it.
    const ARRAY: Type;
}

macro_rules! typed {
    ($($rust:ty => $type:ident, $array:ident;)*) => {
        $(impl Typed for $rust {
            const TYPE: Type = Type::$type;
            const ARRAY: Type = Type::$array;
        })*
    };
}

typed! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    DateTime<Utc> => TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
    serde_json::Value => JSONB, JSONB_ARRAY;
}

impl<T: Typed> Typed for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

/// A parameter of a statement.
pub trait Parameter: Sync {
    /// The value for the driver, and its declared type.
    fn typed(&self) -> (&(dyn ToSql + Sync), Type);
}

impl<T: Typed> Parameter for T {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::TYPE)
    }
}

impl<T: Typed> Parameter for Option<T> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::TYPE)
    }
}

impl<T: Typed> Parameter for Vec<T> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::ARRAY)
    }
}

impl<T: Typed> Parameter for Vec<Option<T>> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::ARRAY)
    }
}

impl<T: Typed> Parameter for Option<Vec<T>> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::ARRAY)
    }
}

impl<T: Typed> Parameter for &[T] {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::ARRAY)
    }
}
