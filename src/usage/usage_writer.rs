//! Writes the calls of many organizations in one transaction: what is submitted while a transaction
//! is under way is written together in the next one. An organization whose row cannot be written
//! this way at once is left to its own transaction, so that none waits for another. If the outcome
//! of a COMMIT is unknown, it is unknown for all organizations of the transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use entity::OrganizationId;
use parking_lot::Mutex;
use sea_orm::ConnectionTrait;
use tokio::sync::{Semaphore, oneshot};

use super::{
    API_CALLS_PER_MONTH,
    lease::{self, Lease, block_of},
};
use crate::{
    error::{Error, Result},
    sql::sql,
    tenancy::{Access, Databases, Reason, Settings, SystemSession, open_system},
};

/// The maximum number of organizations in a transaction, each of which takes an advisory lock.
pub(super) const LARGEST: usize = 250;

/// The maximum number of transactions that return the calls of a single organization. They leave
/// one connection of background work to others, and none is refused because too many wait.
const ALONE: usize = 2;

/// A change of the calls that an organization has used in a month.
#[derive(Debug)]
struct Write {
    organization_id: OrganizationId,
    period_start: DateTime<Utc>,
    /// The calls to add; negative for leased calls that are returned.
    calls: i64,
    /// The plan's limit, if a block is to be leased.
    limit: Option<i64>,
}

/// The result of a [`Write`].
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Calls leased or used by all servers, including `block`.
    used: i64,
    /// The leased calls.
    block: i64,
}

/// Leases and returns calls.
#[derive(Debug)]
pub(super) struct UsageWriter {
    databases: Databases,
    settings: Settings,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the task that writes.
    writing: Arc<tokio::sync::Mutex<()>>,
    alone: Semaphore,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    answer: oneshot::Sender<Result<Option<Written>>>,
}

impl UsageWriter {
    pub(super) fn new(databases: Databases, settings: Settings) -> Self {
        let (waiting, alone) = (Mutex::default(), Semaphore::new(ALONE));
        Self { databases, settings, waiting, writing: Arc::default(), alone }
    }

    /// Leases a block after returning the rest of the previous lease. `known` has the limit, if the
    /// server knows it. Otherwise it is read first, and nothing is leased if there is none or it is
    /// reached. The block may exceed a limit that is lowered meanwhile. The next call then detects
    /// the change and leases again.
    pub(super) async fn lease(
        self: &Arc<Self>,
        organization_id: OrganizationId,
        back: Option<(DateTime<Utc>, i64)>,
        known: Option<Lease>,
    ) -> Result<Lease> {
        let back = back.filter(|(_, left)| *left != 0);
        let current = if let Some(known) = known {
            known
        } else {
            let session = self.open(Some(organization_id), Access::Read).await?;
            let current = lease::unleased(&session).await?;
            session.transaction().release();
            if back.is_none() && current.limit.is_none_or(|limit| Some(limit) <= current.used) {
                return Ok(current);
            }
            current
        };
        let Lease { period_start, limit, .. } = current;
        // The rest of the previous month is in another row.
        if back.is_none_or(|(start, _)| start == period_start) {
            let calls = back.map_or(0, |(_, left)| -left);
            let write = Write { organization_id, period_start, calls, limit };
            if let Some(Written { used, block }) = self.submit(write).await? {
                return Ok(Lease { block, used: Some(used), ..current });
            }
        }
        let session = self.open(Some(organization_id), Access::Write).await?;
        if let Some((period_start, left)) = back {
            lease::add_used(&session, period_start, -left).await?;
        }
        let lease = lease::lease(&session).await?;
        session.commit().await?;
        Ok(lease)
    }

    /// Replaces a lease while the database accepts no changes.
    pub(super) async fn stopgap(&self, organization_id: OrganizationId) -> Result<Lease> {
        lease::stopgap(&self.open(Some(organization_id), Access::Read).await?).await
    }

    /// Returns the rest of a lease. For an unlimited plan `left` is negative, and its absolute
    /// value is the number of used calls.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        organization_id: OrganizationId,
        period_start: DateTime<Utc>,
        left: i64,
    ) -> Result<()> {
        let calls = -left;
        let write = Write { organization_id, period_start, calls, limit: None };
        if self.submit(write).await?.is_some() {
            return Ok(());
        }
        let _permit = self.alone.acquire().await;
        let session = self.open(Some(organization_id), Access::Write).await?;
        lease::add_used(&session, period_start, calls).await?;
        session.commit().await
    }

    async fn open(
        &self,
        organization: Option<OrganizationId>,
        access: Access,
    ) -> Result<SystemSession> {
        let Self { databases, settings, .. } = self;
        open_system(databases, settings, organization, Reason::Metering, access).await
    }

    /// Writes a change, together with others that are waiting. Returns `None` if nothing was
    /// written and the organization needs its own transaction.
    async fn submit(self: &Arc<Self>, write: Write) -> Result<Option<Written>> {
        // It must not depend on the control database.
        if self.databases.is_in_dedicated_database(write.organization_id) {
            return Ok(None);
        }
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().push(Waiting { write, answer });
        loop {
            let turn = tokio::select! {
                biased;
                written = &mut answered => return written.unwrap_or_else(|_| {
                    let cause: Box<dyn std::error::Error + Send + Sync> =
                        "the task that wrote the calls was cancelled".into();
                    Err(Error::CommitOutcomeUnknown(cause.into()))
                }),
                turn = Arc::clone(&self.writing).lock_owned() => turn,
            };
            let writer = Arc::clone(self);
            // In a task, so that cancelling this one does not affect the others.
            tokio::spawn(async move {
                let _turn = turn;
                let batch = writer.take();
                let written = writer.write_all(&batch).await;
                answer_all(batch, written);
            });
        }
    }

    /// Writes all changes, and leases the blocks that the limits allow then.
    async fn write_all(&self, batch: &[Waiting]) -> Result<HashMap<OrganizationId, Written>> {
        let session = self.open(None, Access::Write).await?;
        let writes = || batch.iter().map(|waiting| &waiting.write);
        let calls = writes().map(|write| (write, write.calls)).collect();
        let mut written = HashMap::new();
        for (organization_id, used) in add_calls(&session, calls).await? {
            written.insert(organization_id, Written { used, block: 0 });
        }
        let blocks: Vec<_> = writes()
            .filter_map(|write| {
                let used = written.get(&write.organization_id)?.used;
                Some((write, block_of(write.limit? - used))).filter(|(_, block)| *block > 0)
            })
            .collect();
        if !blocks.is_empty() {
            for (organization_id, used) in add_calls(&session, blocks).await? {
                written.entry(organization_id).and_modify(|written| {
                    *written = Written { used, block: used - written.used };
                });
            }
        }
        session.commit().await?;
        Ok(written)
    }

    /// Takes the changes that fit into a transaction, at most one of each organization.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let mut taken = HashSet::new();
        let (batch, rest) = std::mem::take(&mut *waiting).into_iter().partition(|waiting| {
            taken.len() < LARGEST && taken.insert(waiting.write.organization_id)
        });
        *waiting = rest;
        batch
    }
}

fn answer_all(batch: Vec<Waiting>, written: Result<HashMap<OrganizationId, Written>>) {
    for Waiting { write, answer } in batch {
        let written = match &written {
            Ok(written) => Ok(written.get(&write.organization_id).copied()),
            Err(
                error @ (Error::ReadOnly(_)
                | Error::Unavailable(_)
                | Error::CommitOutcomeUnknown(_)),
            ) => Err(error.clone()),
            // The row of one organization may be the cause.
            Err(_) => Ok(None),
        };
        // The task that submitted it may have been cancelled.
        let _ = answer.send(written);
    }
    if let Err(error) = written {
        tracing::warn!(%error, cause = error.cause(), "could not write API calls together");
    }
}

/// Returns the new sum of each organization that was written.
async fn add_calls(
    session: &SystemSession,
    calls: Vec<(&Write, i64)>,
) -> Result<Vec<(OrganizationId, i64)>> {
    let organizations: Vec<_> = calls.iter().map(|(write, _)| write.organization_id.0).collect();
    let period_starts: Vec<_> = calls.iter().map(|(write, _)| write.period_start).collect();
    let calls: Vec<i64> = calls.into_iter().map(|(_, calls)| calls).collect();
    let add = sql(
        "SELECT organization_id, used FROM billing.add_calls($1, $2, $3, $4)",
        [API_CALLS_PER_MONTH.into(), organizations.into(), period_starts.into(), calls.into()],
    );
    let rows = session.query_all_raw(add).await?;
    let sum = |row: &sea_orm::QueryResult| {
        Ok((OrganizationId(row.try_get("", "organization_id")?), row.try_get("", "used")?))
    };
    rows.iter().map(sum).collect()
}
