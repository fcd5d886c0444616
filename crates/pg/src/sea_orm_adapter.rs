//! The adapter between sea-orm and tokio-postgres: statements, parameters and rows.
//!
//! tokio-postgres is the driver because it sends a statement before earlier ones are answered.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, ProxyExecResult, ProxyRow, QueryResult,
    Statement, Value, Values, sea_query::ArrayType,
};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use crate::{Answer, Error, Result, Row, Transaction};

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

/// Converts a row for sea-orm.
///
/// # Errors
///
/// When two columns have the same name, or a type is not supported.
pub fn to_query_result(row: &Row) -> Result<QueryResult> {
    let mut values = BTreeMap::new();
    for (index, column) in row.columns().iter().enumerate() {
        if values.insert(column.name().to_owned(), value(row, index)?).is_some() {
            let text = format!("two columns have the name {}", column.name());
            return Err(Error::statement(text));
        }
    }
    Ok(ProxyRow::new(values).into())
}

/// The value in exactly the column's type. sea-orm would treat a value that it cannot convert as
/// NULL.
pub(crate) fn value(row: &Row, index: usize) -> Result<Value> {
    fn get<'row, T: FromSql<'row>>(row: &'row Row, index: usize) -> Result<Option<T>> {
        row.try_get(index)
    }
    Ok(match *row.columns()[index].type_() {
        Type::BOOL => Value::Bool(get(row, index)?),
        Type::INT2 => Value::SmallInt(get(row, index)?),
        Type::INT4 => Value::Int(get(row, index)?),
        Type::INT8 => Value::BigInt(get(row, index)?),
        Type::FLOAT8 => Value::Double(get(row, index)?),
        Type::TEXT | Type::VARCHAR | Type::NAME => Value::String(get(row, index)?),
        Type::BYTEA => Value::Bytes(get(row, index)?),
        Type::UUID => Value::Uuid(get(row, index)?),
        Type::TIMESTAMPTZ => Value::ChronoDateTimeUtc(get(row, index)?),
        Type::JSON | Type::JSONB => Value::Json(get(row, index)?),
        // The result of a function without a return value.
        Type::VOID => Value::String(None),
        ref other => {
            let column = row.columns()[index].name();
            return Err(Error::statement(format!(
                "column {column} has the unsupported type {other}"
            )));
        }
    })
}

/// Wraps an error for sea-orm, in its only variant that keeps a source.
impl From<Error> for DbErr {
    fn from(error: Error) -> Self {
        Self::TryIntoErr { from: "statement", into: "rows", source: Arc::new(error) }
    }
}

/// Unwraps an error that passed through sea-orm. Other errors are those of sea-orm.
impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if let DbErr::TryIntoErr { source, .. } = &error
            && let Some(error) = source.downcast_ref::<Self>()
        {
            return error.clone();
        }
        Self::statement(error)
    }
}

impl Transaction {
    async fn executed(&self, sql: &str, values: Option<Values>) -> Result<ExecResult, DbErr> {
        let rows_affected = self.query(sql, values).await?.affected;
        Ok(ProxyExecResult { last_insert_id: 0, rows_affected }.into())
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.executed(&statement.sql, statement.values).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.executed(sql, None).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let rows = self.query_all_raw(statement).await?;
        Ok(rows.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Answer { rows, .. } = self.query(&statement.sql, statement.values).await?;
        Ok(rows.iter().map(to_query_result).collect::<Result<_>>()?)
    }
}
