//! The beginning of a transaction, and one whose answer nobody waits for yet.

use std::{future::ready, pin::Pin};

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;

use super::{
    Access,
    connection::{Answer, Connection, is_outdated, unbounded},
    driver::Parameters,
    placement::Schema,
    pool::StallGuard,
    pooled_connection::PooledConnection,
};
use crate::error::DbErrorKind;

type First = Pin<Box<dyn Future<Output = Result<Answer, sqlx::Error>> + Send>>;

/// Sent; answered some time.
pub(super) struct Speculative(Option<First>);

impl Speculative {
    /// Sends it.
    pub(super) async fn begin(
        link: &Connection,
        first: impl Future<Output = Result<Answer, sqlx::Error>> + Send + 'static,
    ) -> Self {
        let mut first: First = Box::pin(first);
        // The first poll sends everything, whatever the task has done before.
        let mut early = unconstrained(&mut first).now_or_never();
        if early.is_none() && link.is_sending() {
            // Something has to be prepared first, and whatever follows would wait behind that for
            // ever.
            early = Some(first.as_mut().await);
        }
        Self(Some(early.map_or(first, |early| Box::pin(ready(early)))))
    }

    pub(super) async fn answer(mut self) -> Result<Answer, sqlx::Error> {
        let answer = match &mut self.0 {
            Some(first) => first.await,
            None => Err(sqlx::Error::PoolClosed),
        };
        // Over.
        self.0 = None;
        answer
    }
}

impl Drop for Speculative {
    /// An answer that is there and that nobody has looked at was no silence.
    fn drop(&mut self) {
        if let Some(first) = &mut self.0 {
            let _ = first.now_or_never();
        }
    }
}

/// A connection that died in the pool, or that has prepared its statements before a migration.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    DbErrorKind::of(error) == DbErrorKind::Connection || is_outdated(error)
}

/// What begins a transaction.
pub(super) async fn first(
    connection: &PooledConnection,
    access: Access,
    schema: Option<&Schema>,
    sql: &str,
    parameters: &Parameters,
) -> Result<Answer, sqlx::Error> {
    let link = connection.link()?;
    let statement = access.begin(link.take_forsaken());
    let mut silence = StallGuard::begin(connection.connections());
    let (begun, answer, led) = tokio::join!(
        biased;
        link.execute(statement),
        link.query(None, sql, parameters, unbounded),
        lead(link, schema)
    );
    silence.answered = true;
    begun.and(answer).and_then(|answer| led.and(Ok(answer)))
}

pub(super) async fn lead(link: &Connection, schema: Option<&Schema>) -> Result<(), sqlx::Error> {
    match schema {
        // Large, and every request would carry it.
        Some(schema) => Box::pin(async { link.execute(&schema.search_path()).await }).await,
        None => Ok(()),
    }
}
