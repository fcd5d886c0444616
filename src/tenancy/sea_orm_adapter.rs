//! The adapter between sea-orm and tokio-postgres: statements, parameters, rows and errors.
//!
//! tokio-postgres is the driver because it sends a statement before earlier ones are answered. Its
//! errors become those of sea-orm and sqlx, so that callers do not depend on it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
    io,
};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, ProxyExecResult, ProxyRow, QueryResult,
    RuntimeErr, Statement, Value, Values, sea_query::ArrayType,
};
use sqlx::error::{DatabaseError, ErrorKind};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{Transaction, connection::Answer};

/// Parameters in the driver's representation.
#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) values: Vec<Parameter>,
    /// The declared types. PostgreSQL would otherwise infer them from the context in the statement.
    pub(super) types: Vec<Type>,
}

impl Parameters {
    pub(super) fn of(values: Option<Values>) -> Result<Self, sqlx::Error> {
        let values = values.map_or_else(Vec::new, |values| values.0);
        let types = values.iter().map(type_of).collect::<Result<_, _>>()?;
        Ok(Self { values: values.into_iter().map(Parameter).collect(), types })
    }
}

pub(super) struct Parameter(Value);

/// Omits the value: the driver logs parameters, which may contain personal data.
impl fmt::Debug for Parameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

fn type_of(value: &Value) -> Result<Type, sqlx::Error> {
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
        Value::Array(ArrayType::String, _) => Type::TEXT_ARRAY,
        other => {
            return Err(sqlx::Error::Encode(undeclared(other).into()));
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

/// Converts a row for sea-orm's entities.
pub(super) fn to_proxy_row(row: &Row) -> Result<ProxyRow, sqlx::Error> {
    let mut values = BTreeMap::new();
    for (index, column) in row.columns().iter().enumerate() {
        let name = column.name().to_owned();
        if values.insert(name, value(row, index, column.type_())?).is_some() {
            let text = format!("two columns have the name {}", column.name());
            return Err(sqlx::Error::Decode(text.into()));
        }
    }
    Ok(ProxyRow::new(values))
}

/// The value in exactly the column's type. sea-orm would treat a value that it cannot convert as
/// NULL.
pub(super) fn value(row: &Row, index: usize, of: &Type) -> Result<Value, sqlx::Error> {
    fn get<'row, T: FromSql<'row>>(row: &'row Row, index: usize) -> Result<Option<T>, sqlx::Error> {
        row.try_get(index).map_err(failed)
    }
    Ok(match *of {
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
            return Err(sqlx::Error::Decode(
                format!("column {column} has the unsupported type {other}").into(),
            ));
        }
    })
}

/// Converts the error of a statement.
pub(super) fn failed(error: tokio_postgres::Error) -> sqlx::Error {
    if error.as_db_error().is_some() {
        return sqlx::Error::Database(Box::new(Answered(error)));
    }
    // An I/O error appears as the source. Both cases mean that the connection is lost.
    let source = std::error::Error::source(&error);
    if error.is_closed() || source.is_some_and(<dyn std::error::Error>::is::<io::Error>) {
        lost(&error)
    } else {
        sqlx::Error::Decode(whole(&error).into())
    }
}

/// Converts an error of connecting.
pub(super) fn not_connected(error: tokio_postgres::Error) -> sqlx::Error {
    if error.as_db_error().is_some() { failed(error) } else { lost(&error) }
}

fn lost(error: &tokio_postgres::Error) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, whole(error)))
}

/// The error with its sources, which hold the reasons.
pub(super) fn whole(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(reason) = source {
        let _ = write!(text, ": {reason}");
        source = reason.source();
    }
    text
}

/// An error that PostgreSQL returned.
#[derive(Debug)]
struct Answered(tokio_postgres::Error);

impl fmt::Display for Answered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

/// Has no source, because details of the driver's error may contain values of rows.
impl std::error::Error for Answered {}

impl DatabaseError for Answered {
    fn message(&self) -> &str {
        self.0.as_db_error().map_or("", tokio_postgres::error::DbError::message)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.0.code().map(|code| code.code().into())
    }

    fn constraint(&self) -> Option<&str> {
        self.0.as_db_error()?.constraint()
    }

    fn kind(&self) -> ErrorKind {
        // PostgreSQL manual, appendix A.
        match self.0.code().map(tokio_postgres::error::SqlState::code) {
            Some("23505") => ErrorKind::UniqueViolation,
            Some("23503") => ErrorKind::ForeignKeyViolation,
            Some("23502") => ErrorKind::NotNullViolation,
            Some("23514") => ErrorKind::CheckViolation,
            Some("23P01") => ErrorKind::ExclusionViolation,
            _ => ErrorKind::Other,
        }
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }
}

fn querying(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

impl Transaction {
    async fn run(&self, sql: &str, values: Option<Values>) -> Result<Answer, DbErr> {
        self.query(sql, values).await.map_err(querying)
    }

    async fn executed(&self, sql: &str, values: Option<Values>) -> Result<ExecResult, DbErr> {
        let rows_affected = self.run(sql, values).await?.affected;
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
        let rows = self.run(&statement.sql, statement.values).await?.rows;
        rows.iter().map(|row| to_proxy_row(row).map(Into::into).map_err(querying)).collect()
    }
}
