//! The beginning of a transaction: BEGIN, its search path and its first statement are one message.
//! Later statements can be sent before PostgreSQL has answered it.

use std::{
    future::ready,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;

use crate::{
    Access, Answer, ConnectionPool, Error, ErrorKind, Parameters, Result, Row, SearchPath,
    Transaction,
    connection::{Connection, unbounded},
    pool::StallGuard,
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
            set_search_path(link, search_path),
        );
        let (earlier, answer) = (ended.and(earlier)?, begun.and(answer)?);
        path?;
        let transaction = Self::on(Arc::new(connection), search_path.cloned(), sent.elapsed());
        Ok((transaction, earlier.rows, answer.rows))
    }
}

type Pending = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// The answer to a first message that was sent. It may still be on its way.
pub(crate) struct FirstAnswer(Option<Pending>);

impl FirstAnswer {
    /// Sends the first message.
    async fn begin(
        link: &Connection,
        first: impl Future<Output = Result<Answer>> + Send + 'static,
    ) -> Self {
        let mut first: Pending = Box::pin(first);
        // The first poll sends everything; `unconstrained` keeps tokio's budget from preventing
        // that.
        let mut early = unconstrained(&mut first).now_or_never();
        if early.is_none() && link.is_sending() {
            // A statement has to be prepared first. Later statements would wait for the turn to
            // send, which this future holds until it is polled again.
            early = Some(first.as_mut().await);
        }
        Self(Some(early.map_or(first, |early| Box::pin(ready(early)))))
    }

    pub(crate) async fn receive(mut self) -> Result<Answer> {
        let answer = match &mut self.0 {
            Some(first) => first.await,
            None => Err(Error::closed()),
        };
        // The answer was received, so the drop has nothing to poll.
        self.0 = None;
        answer
    }
}

impl Drop for FirstAnswer {
    /// Polls once more, so that an answer that has arrived does not count as missing in
    /// [`StallGuard`].
    fn drop(&mut self) {
        if let Some(first) = &mut self.0 {
            let _ = first.now_or_never();
        }
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
        set_search_path(link, search_path)
    );
    guard.answered = true;
    begun.and(answer).and_then(|answer| set.and(Ok(answer)))
}

/// Sets the search path of the transaction, if it has one.
pub(crate) async fn set_search_path(
    link: &Connection,
    search_path: Option<&SearchPath>,
) -> Result<()> {
    match search_path {
        // Boxed: large, and every request would carry it.
        Some(path) => Box::pin(async { link.execute(&path.statement()).await }).await,
        None => Ok(()),
    }
}
