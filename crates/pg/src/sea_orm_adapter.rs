//! The adapter between sea-orm and tokio-postgres: statements, rows and errors.
//!
//! tokio-postgres is the driver because it sends a statement before earlier ones are answered.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, ProxyExecResult, ProxyRow, QueryResult,
    Statement, Value, Values,
};
use tokio_postgres::types::{FromSql, Type};

use crate::{Answer, Error, Result, Row, Transaction};

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
        Type::INT8_ARRAY => Value::from(get::<Vec<i64>>(row, index)?),
        Type::FLOAT8 => Value::Double(get(row, index)?),
        Type::TEXT | Type::VARCHAR | Type::NAME => Value::String(get(row, index)?),
        Type::BYTEA => Value::Bytes(get(row, index)?),
        Type::UUID => Value::Uuid(get(row, index)?),
        Type::DATE => Value::ChronoDate(get(row, index)?),
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
