//! The beginning of a transaction: BEGIN, its search path and its first statement are one message.
//! Later statements can be sent before PostgreSQL has answered it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Access, Answer, ConnectionPool, ErrorKind, Parameters, Result, Row, SearchPath, Transaction,
    connection::unbounded, first_answer::FirstAnswer, pool::StallGuard,
    pooled_connection::PooledConnection,
};

impl Transaction {
    /// Begins a transaction with its first statement in one message. Table names without a schema
    /// then resolve in `search_path`, if there is one.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or the statement fails.
    pub async fn begin(
        connections: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<(Self, Vec<Row>)> {
        let mut retried = false;
        loop {
            // From here on, a cancelled task leaves no open transaction behind.
            let connection = PooledConnection::new(connections).await?;
            let sent = Instant::now();
            match first(&connection, access, search_path, sql, parameters).await {
                Ok(answer) => {
                    let connection = Arc::new(connection);
                    let transaction = Self::on(connection, search_path.cloned(), sent.elapsed());
                    return Ok((transaction, answer.rows));
                }
                // The connection died in the pool or has outdated statements. Nothing was executed,
                // so another try is safe. The idle connections are probably no better.
                Err(error) if !retried && error.is_lost() => {
                    retried = true;
                    connections.discard_idle();
                }
                Err(error) => {
                    if error.kind() == ErrorKind::ReadOnly {
                        connection.link()?.abandon();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Begins a transaction, and returns before PostgreSQL has answered. Later statements are sent
    /// behind the first one. [`first_answer`](Self::first_answer) reports whether it began at all.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub async fn begin_pipelined(
        connections: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        sql: &'static str,
        parameters: Parameters,
    ) -> Result<Self> {
        let connection = Arc::new(PooledConnection::new(connections).await?);
        let first = {
            let (connection, search_path) = (Arc::clone(&connection), search_path.cloned());
            async move { first(&connection, access, search_path.as_ref(), sql, &parameters).await }
        };
        let first = FirstAnswer::begin(connection.link()?, first).await;
        let transaction = Self::on(connection, search_path.cloned(), Duration::ZERO);
        transaction.set_first_answer(first);
        Ok(transaction)
    }

    /// Begins a transaction that only reads. Another statement runs before it in the same message,
    /// because it must not read the transaction's snapshot. Returns the rows of both.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or a statement fails.
    pub async fn begin_behind(
        connections: &ConnectionPool,
        before: (&str, &Parameters),
        search_path: Option<&SearchPath>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<(Self, Vec<Row>, Vec<Row>)> {
        let connection = PooledConnection::new(connections).await?;
        let link = connection.link()?;
        let is_rollback_deferred = link.take_deferred_rollback();
        let roll_back =
            async { if is_rollback_deferred { link.execute("ROLLBACK").await } else { Ok(()) } };
        let sent = Instant::now();
        let (ended, earlier, begun, answer, path) = tokio::join!(biased;
            roll_back,
            link.query(None, before.0, before.1, unbounded),
            link.execute(Access::Read.begin(false)),
            link.query(None, sql, parameters, unbounded),
            link.set_search_path(search_path),
        );
        let (earlier, answer) = (ended.and(earlier)?, begun.and(answer)?);
        path?;
        let transaction = Self::on(Arc::new(connection), search_path.cloned(), sent.elapsed());
        Ok((transaction, earlier.rows, answer.rows))
    }
}

/// Begins a transaction, sets its search path, and runs its first statement, in one round trip.
async fn first(
    connection: &PooledConnection,
    access: Access,
    search_path: Option<&SearchPath>,
    sql: &str,
    parameters: &Parameters,
) -> Result<Answer> {
    let link = connection.link()?;
    let statement = access.begin(link.take_deferred_rollback());
    let mut guard = StallGuard::begin(connection.connections());
    let (begun, answer, set) = tokio::join!(
        biased;
        link.execute(statement),
        link.query(None, sql, parameters, unbounded),
        link.set_search_path(search_path)
    );
    guard.answered = true;
    begun.and(answer).and_then(|answer| set.and(Ok(answer)))
}
