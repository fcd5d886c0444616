//! The replica: a standby of the primary, for queries whose clients do not need the freshest
//! answer.
//!
//! It answers only what it is known to answer as the primary would have a moment ago; whatever else
//! it says, or does not say, sends the request to the primary. The same opening holds there, with
//! the same role and the same row-level security.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use sea_orm::Values;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::{
    Access, Transaction,
    connection::unbounded,
    driver::{Parameters, failed},
    lsn::{Freshness, Lsn, LsnHistory, POSITION},
    placement::Placement,
    pool::{ConnectionPool, DatabaseOptions},
    pooled_connection::PooledConnection,
    speculative::lead,
};
use crate::error::{Error, Result};

/// Asked before the transaction begins: what is replayed after its snapshot was taken is not in it.
/// A server that was promoted since is a database of its own.
const REACHED: &str = "SELECT pg_is_in_recovery() AS is_standby,
    coalesce(pg_last_wal_replay_lsn() - '0/0' >= $1, false) AS has_reached";

/// Whether it is a standby, and of whom.
const IDENTITY: &str =
    "SELECT pg_is_in_recovery() AS is_standby, system_identifier FROM pg_control_system()";

/// How long a request waits for the replica to begin before it goes to the primary.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a replica that failed is left alone; then one request tries it.
const PAUSE: Duration = Duration::from_secs(5);

/// How often the primary is asked where it is: often enough for a staleness of a second.
const INTERVAL: Duration = Duration::from_millis(400);

/// A standby, and what is known of it.
#[derive(Debug)]
pub(super) struct Replica {
    connections: ConnectionPool,
    lsn_history: LsnHistory,
    created: Instant,
    /// Milliseconds since then at which a replica that failed may be tried again; 0 for one that
    /// works.
    tried_again: AtomicU64,
}

impl Replica {
    /// No connection is made yet.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Self> {
        let options = DatabaseOptions { acquire_timeout: PATIENCE, ..options.clone() };
        Ok(Self {
            connections: ConnectionPool::new(&options)?,
            lsn_history: LsnHistory::default(),
            created: Instant::now(),
            tried_again: AtomicU64::new(0),
        })
    }

    pub(super) fn connections(&self) -> &ConnectionPool {
        &self.connections
    }

    /// Keeps itself informed, for ever, of where the primary is.
    pub(super) async fn follow(&self, primary: &ConnectionPool) {
        loop {
            let asked = Instant::now();
            match lsn(primary).await {
                Ok(lsn) => self.lsn_history.note(asked, lsn),
                Err(error) => tracing::debug!(%error, "where the primary is is not known"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Begins a transaction that is fresh enough, in which the opening has succeeded; without one
    /// it is the primary's turn.
    pub(super) async fn begin(
        &self,
        freshness: Freshness,
        placement: &Placement,
        opening: &str,
        parameters: &Parameters,
    ) -> Option<(Transaction, Row)> {
        let least = self.lsn_history.least(freshness)?;
        if self.connections.are_all_busy() || !self.may_be_tried() {
            return None;
        }
        // Large, and every request would carry it.
        let begun = Box::pin(self.try_begin(least, placement, opening, parameters));
        let begun = timeout(PATIENCE, begun).await;
        match begun.map_err(Error::internal).and_then(|begun| begun) {
            Ok(begun) => {
                self.tried_again.store(0, Ordering::Relaxed);
                begun
            }
            // Replay goes first; the replica is well.
            Err(Error::Contention(_)) => None,
            Err(error) => {
                self.connections.discard_idle();
                if self.tried_again.swap(self.after_a_pause(), Ordering::Relaxed) == 0 {
                    let cause = error.cause();
                    tracing::warn!(cause, "the replica cannot be used: the primary answers");
                }
                None
            }
        }
    }

    /// All statements are sent together, so this waits as often as an opening at the primary.
    async fn try_begin(
        &self,
        least: Lsn,
        placement: &Placement,
        opening: &str,
        parameters: &Parameters,
    ) -> Result<Option<(Transaction, Row)>> {
        let least = Parameters::of(Some(Values(vec![least.bytes().into()])))?;
        let connection = PooledConnection::new(&self.connections).await?;
        let link = connection.link()?;
        let is_forsaken = link.take_forsaken();
        let end = async { if is_forsaken { link.execute("ROLLBACK").await } else { Ok(()) } };
        let sent = Instant::now();
        let (ended, reached, begun, opened, led) = tokio::join!(biased;
            end,
            link.query(None, REACHED, &least, unbounded),
            link.execute(Access::Read.begin(false)),
            link.query(None, opening, parameters, unbounded),
            lead(link, placement.schema()),
        );
        let (reached, opened) = (ended.and(reached)?, begun.and(opened)?);
        led?;
        let transaction = Transaction::new(connection, placement.schema().cloned(), sent.elapsed());
        let (Some(reached), Some(row)) = (reached.rows.first(), opened.rows.into_iter().next())
        else {
            return Err(Error::internal("the replica answered nothing"));
        };
        if !reached.try_get("is_standby").map_err(failed)? {
            return Err(Error::internal("it is not a standby"));
        }
        // Somebody or something that the replica does not know may be known by now.
        let is_known = row.try_get::<_, &str>("outcome").map_err(failed)? == "OK";
        if is_known && reached.try_get("has_reached").map_err(failed)? {
            return Ok(Some((transaction, row)));
        }
        transaction.release();
        Ok(None)
    }

    /// Once after each pause for one that failed.
    fn may_be_tried(&self) -> bool {
        let at = self.tried_again.load(Ordering::Relaxed);
        let is_over = || at <= self.milliseconds();
        let taken = || {
            let next = self.after_a_pause();
            self.tried_again.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        at == 0 || (is_over() && taken().is_ok())
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn after_a_pause(&self) -> u64 {
        self.milliseconds().saturating_add(PAUSE.as_secs() * 1_000)
    }

    /// What keeps it from being a replica of this primary, for operators.
    pub(super) async fn problem(&self, primary: &ConnectionPool) -> Option<String> {
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
    let nothing = Parameters::of(None)?;
    let (transaction, rows) =
        Transaction::begin(primary, Access::Read, None, POSITION, &nothing).await?;
    transaction.release();
    Lsn::of(&rows)
}

async fn identity(connections: &ConnectionPool) -> Result<(bool, i64)> {
    let nothing = Parameters::of(None)?;
    let (transaction, rows) =
        Transaction::begin(connections, Access::Read, None, IDENTITY, &nothing).await?;
    transaction.release();
    let row = rows.first().ok_or_else(|| Error::internal("the database has no identity"))?;
    let is_standby = row.try_get("is_standby").map_err(failed)?;
    Ok((is_standby, row.try_get("system_identifier").map_err(failed)?))
}
