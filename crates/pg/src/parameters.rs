//! The parameters of a statement, from sea-orm's values to the driver's.

use std::fmt;

use sea_orm::{Value, Values, sea_query::ArrayType};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use crate::{Error, Result};

/// Parameters in the driver's representation.
#[derive(Debug)]
pub struct Parameters {
    pub(crate) values: Vec<Parameter>,
    /// The declared types. PostgreSQL would otherwise infer them from the context in the statement.
    pub(crate) types: Vec<Type>,
}

impl Parameters {
    /// Converts the values of a statement.
    ///
    /// # Errors
    ///
    /// When a value has no declared type.
    pub fn of(values: Option<Values>) -> Result<Self> {
        let values = values.map_or_else(Vec::new, |values| values.0);
        let types = values.iter().map(type_of).collect::<Result<_, _>>()?;
        Ok(Self { values: values.into_iter().map(Parameter).collect(), types })
    }
}

pub(crate) struct Parameter(Value);

/// Omits the value: the driver logs parameters, which may contain personal data.
impl fmt::Debug for Parameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

fn type_of(value: &Value) -> Result<Type> {
    Ok(match value {
        Value::Bool(_) => Type::BOOL,
        Value::SmallInt(_) => Type::INT2,
        Value::Int(_) => Type::INT4,
        // LIMIT and OFFSET are unsigned in sea-query.
        Value::BigInt(_) | Value::BigUnsigned(_) => Type::INT8,
        Value::Double(_) => Type::FLOAT8,
        Value::String(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
        Value::Uuid(_) => Type::UUID,
        Value::ChronoDate(_) => Type::DATE,
        Value::ChronoDateTimeUtc(_) => Type::TIMESTAMPTZ,
        Value::Json(_) => Type::JSONB,
        Value::Array(ArrayType::BigInt, _) => Type::INT8_ARRAY,
        Value::Array(ArrayType::Uuid, _) => Type::UUID_ARRAY,
        Value::Array(ArrayType::ChronoDateTimeUtc, _) => Type::TIMESTAMPTZ_ARRAY,
        Value::Array(ArrayType::String, _) => Type::TEXT_ARRAY,
        other => {
            return Err(Error::statement(undeclared(other)));
        }
    })
}

/// An error text without the value, which may contain personal data.
fn undeclared(value: &Value) -> String {
    format!("parameters of this kind have no declared type: {:?}", std::mem::discriminant(value))
}

impl ToSql for Parameter {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Value::Bool(value) => value.to_sql(of, out),
            Value::SmallInt(value) => value.to_sql(of, out),
            Value::Int(value) => value.to_sql(of, out),
            Value::BigInt(value) => value.to_sql(of, out),
            Value::BigUnsigned(value) => value.map(i64::try_from).transpose()?.to_sql(of, out),
            Value::Double(value) => value.to_sql(of, out),
            Value::String(value) => value.to_sql(of, out),
            Value::Bytes(value) => value.to_sql(of, out),
            Value::Uuid(value) => value.to_sql(of, out),
            Value::ChronoDate(value) => value.to_sql(of, out),
            Value::ChronoDateTimeUtc(value) => value.to_sql(of, out),
            Value::Json(value) => value.as_deref().to_sql(of, out),
            Value::Array(_, None) => Ok(IsNull::Yes),
            Value::Array(_, Some(values)) => {
                values.iter().cloned().map(Self).collect::<Vec<_>>().to_sql(of, out)
            }
            other => Err(undeclared(other).into()),
        }
    }

    /// Accepts every type, because [`type_of`] declared it.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
