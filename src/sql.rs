//! Statements in SQL, for what entities cannot express.

use sea_orm::{ConnectionTrait, DbBackend, Statement, TryGetable, Value};

use crate::error::{Error, Result};

/// A statement and its parameters.
pub(crate) fn sql(text: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

/// The value of a column in the only row that a statement returns.
pub(crate) async fn value_of<T: TryGetable>(
    scope: &impl ConnectionTrait,
    column: &str,
    statement: Statement,
) -> Result<T> {
    let row = scope.query_one_raw(statement).await?;
    let missing = || Error::internal(format!("a statement returned no row with {column}"));
    Ok(row.ok_or_else(missing)?.try_get("", column)?)
}
