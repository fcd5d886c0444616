//! Single statements, each in a separate transaction, without a session.

use pg::{ConnectionPool, Parameters, Row};
use sea_orm::Values;

use super::super::{Access, Transaction};
use crate::error::Result;

/// Runs one statement in a separate transaction.
pub async fn query_once(
    connections: &ConnectionPool,
    access: Access,
    sql: &str,
    values: Option<Values>,
) -> Result<Vec<Row>> {
    let parameters = Parameters::of(values)?;
    let (transaction, rows) =
        Transaction::begin(connections, access, None, sql, &parameters).await?;
    match access {
        Access::Read => transaction.release(),
        Access::Write => transaction.commit().await?,
    }
    Ok(rows)
}

/// The migration steps that a database has, as visible to the app role.
pub async fn migration_status(connections: &ConnectionPool) -> Result<migration::Status> {
    let rows = query_once(
        connections,
        Access::Read,
        "SELECT version FROM migration.seaql_migrations",
        None,
    )
    .await?;
    let applied = rows.iter().map(|row| row.try_get(0));
    Ok(migration::status(&applied.collect::<pg::Result<Vec<String>>>()?))
}
