//! The replica: a standby for queries whose clients accept stale data.
//!
//! It serves a query only if it has replayed the required LSN and the opening succeeds there. In
//! all other cases the primary serves it. Roles and row-level security are the same.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pg::{CURRENT_LSN, ConnectionPool, LsnHistory, Parameters, Row};
use sea_orm::Values;
use tokio::time::timeout;

use super::{
    super::{Access, Freshness, Lsn, Transaction, placement::Placement},
    options::DatabaseOptions,
    query::query_once,
};
use crate::error::{Error, Result};

/// Runs before the transaction begins, because changes replayed after its snapshot are not in it.
/// `is_standby` detects a server that was promoted and no longer follows the primary.
const REACHED: &str = "SELECT pg_is_in_recovery() AS is_standby,
    coalesce(pg_last_wal_replay_lsn() - '0/0' >= $1, false) AS has_reached";

/// Whether the server is a standby, and the identity of its cluster.
const IDENTITY: &str =
    "SELECT pg_is_in_recovery() AS is_standby, system_identifier FROM pg_control_system()";

/// How long a request waits for the replica before it uses the primary.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a failed replica is skipped before one request tries it again.
const PAUSE: Duration = Duration::from_secs(5);

/// The interval of LSN queries to the primary, short enough for a staleness of one second.
const INTERVAL: Duration = Duration::from_millis(400);

/// A standby and its state.
#[derive(Debug)]
pub struct Replica {
    connections: ConnectionPool,
    lsn_history: LsnHistory,
    /// When a failed replica may be tried again; `None` if it works.
    retry_at: Mutex<Option<Instant>>,
}

impl Replica {
    /// Creates the pool; opens no connection.
    pub fn new(options: &DatabaseOptions) -> Result<Self> {
        let options = DatabaseOptions { acquire_timeout: BEGIN_TIMEOUT, ..options.clone() };
        Ok(Self {
            connections: options.request_pool()?,
            lsn_history: LsnHistory::default(),
            retry_at: Mutex::default(),
        })
    }

    pub fn connections(&self) -> &ConnectionPool {
        &self.connections
    }

    /// Tracks the primary's LSN; never returns.
    pub async fn follow(&self, primary: &ConnectionPool) {
        loop {
            let asked = Instant::now();
            match lsn(primary).await {
                Ok(lsn) => self.lsn_history.note(asked, lsn),
                Err(error) => tracing::debug!(%error, "could not read the primary's LSN"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Begins a fresh enough transaction in which the opening has succeeded. Returns `None` if the
    /// primary must serve the request.
    pub async fn begin(
        &self,
        freshness: Freshness,
        placement: &Placement,
        opening: &str,
        parameters: &Parameters,
    ) -> Option<(Transaction, Row)> {
        let least = self.lsn_history.least(freshness)?;
        if self.connections.are_all_busy() || !self.may_try() {
            return None;
        }
        // Boxed: large, and every request would carry it.
        let begun = Box::pin(self.try_begin(least, placement, opening, parameters));
        let begun = timeout(BEGIN_TIMEOUT, begun).await;
        match begun.map_err(Error::internal).and_then(|begun| begun) {
            Ok(begun) => {
                *self.retry_at.lock() = None;
                begun
            }
            // Replay cancelled the query; the replica itself works.
            Err(Error::Contention(_)) => None,
            Err(error) => {
                self.connections.discard_idle();
                if self.retry_at.lock().replace(Instant::now() + PAUSE).is_none() {
                    let cause = error.cause();
                    tracing::warn!(
                        cause,
                        "the replica cannot be used; the primary serves its queries"
                    );
                }
                None
            }
        }
    }

    /// Sends all statements together, in one round trip like an opening at the primary.
    async fn try_begin(
        &self,
        least: Lsn,
        placement: &Placement,
        opening: &str,
        parameters: &Parameters,
    ) -> Result<Option<(Transaction, Row)>> {
        let least = Parameters::of(Some(Values(vec![least.bytes().into()])))?;
        let path = placement.search_path();
        let (before, connections) = ((REACHED, &least), &self.connections);
        // Boxed: large.
        let begun =
            Box::pin(Transaction::begin_behind(connections, before, path, opening, parameters));
        let (transaction, reached, opened) = begun.await?;
        let (Some(reached), Some(row)) = (reached.first(), opened.into_iter().next()) else {
            return Err(Error::internal("the replica returned no row"));
        };
        if !reached.try_get("is_standby")? {
            return Err(Error::internal("the server at DATABASE_REPLICA_URL is not a standby"));
        }
        // A new user or organization may not have been replayed yet.
        let is_known = row.try_get::<_, &str>("outcome")? == "OK";
        if is_known && reached.try_get("has_reached")? {
            return Ok(Some((transaction, row)));
        }
        transaction.release();
        Ok(None)
    }

    /// Whether to try the replica. After a failure one request may do so per pause.
    fn may_try(&self) -> bool {
        if let Some(retry_at) = &mut *self.retry_at.lock() {
            let now = Instant::now();
            if now < *retry_at {
                return false;
            }
            *retry_at = now + PAUSE;
        }
        true
    }

    /// Why it is not a usable replica of this primary; `None` if it is.
    pub async fn problem(&self, primary: &ConnectionPool) -> Option<String> {
        let found = async {
            let (_, ours) = identity(primary).await?;
            let (is_standby, theirs) = identity(&self.connections).await?;
            Ok::<_, Error>(is_standby && ours == theirs)
        };
        match found.await {
            Ok(true) => None,
            Ok(false) => Some("it is not a standby of the database at DATABASE_URL".to_owned()),
            Err(error) => Some(error.cause()),
        }
    }
}

async fn lsn(primary: &ConnectionPool) -> Result<Lsn> {
    Ok(Lsn::of(&query_once(primary, Access::Read, CURRENT_LSN, None).await?)?)
}

async fn identity(connections: &ConnectionPool) -> Result<(bool, i64)> {
    let rows = query_once(connections, Access::Read, IDENTITY, None).await?;
    let row = rows.first().ok_or_else(|| Error::internal("the server returned no identity"))?;
    Ok((row.try_get("is_standby")?, row.try_get("system_identifier")?))
}
