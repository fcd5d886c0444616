//! The first messages of a transaction, pipelined: a transaction can start before PostgreSQL has
//! answered them.

use std::{future::ready, pin::Pin};

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;

use super::{
    Access,
    connection::{Answer, Connection, is_outdated, unbounded},
    placement::Schema,
    pool::StallGuard,
    pooled_connection::PooledConnection,
    sea_orm_adapter::Parameters,
};
use crate::error::DbErrorKind;

type First = Pin<Box<dyn Future<Output = Result<Answer, sqlx::Error>> + Send>>;

/// A first message that was sent and whose answer may still be on its way.
pub(super) struct Speculative(Option<First>);

impl Speculative {
    /// Sends the first message.
    pub(super) async fn begin(
        link: &Connection,
        first: impl Future<Output = Result<Answer, sqlx::Error>> + Send + 'static,
    ) -> Self {
        let mut first: First = Box::pin(first);
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

    pub(super) async fn answer(mut self) -> Result<Answer, sqlx::Error> {
        let answer = match &mut self.0 {
            Some(first) => first.await,
            None => Err(sqlx::Error::PoolClosed),
        };
        // The answer was received, so the drop has nothing to poll.
        self.0 = None;
        answer
    }
}

impl Drop for Speculative {
    /// Polls once more, so that an answer that has arrived does not count as missing in
    /// [`StallGuard`].
    fn drop(&mut self) {
        if let Some(first) = &mut self.0 {
            let _ = first.now_or_never();
        }
    }
}

/// Whether the connection died in the pool, or prepared its statements before a migration.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    DbErrorKind::of(error) == DbErrorKind::Connection || is_outdated(error)
}

/// Begins a transaction, sets its search path, and runs its first statement, in one round trip.
pub(super) async fn first(
    connection: &PooledConnection,
    access: Access,
    schema: Option<&Schema>,
    sql: &str,
    parameters: &Parameters,
) -> Result<Answer, sqlx::Error> {
    let link = connection.link()?;
    let statement = access.begin(link.take_deferred_rollback());
    let mut guard = StallGuard::begin(connection.connections());
    let (begun, answer, led) = tokio::join!(
        biased;
        link.execute(statement),
        link.query(None, sql, parameters, unbounded),
        lead(link, schema)
    );
    guard.answered = true;
    begun.and(answer).and_then(|answer| led.and(Ok(answer)))
}

/// Makes a schema's tables visible for the transaction; does nothing for the shared tables.
pub(super) async fn lead(link: &Connection, schema: Option<&Schema>) -> Result<(), sqlx::Error> {
    match schema {
        // Boxed: large, and every request would carry it.
        Some(schema) => Box::pin(async { link.execute(&schema.search_path()).await }).await,
        None => Ok(()),
    }
}
