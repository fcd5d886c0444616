//! Changes, from whoever committed them to whoever watches, on whatever server: through
//! PostgreSQL's NOTIFY.
//!
//! A task tells them after the commit, many at once, and only while some server has a watcher:
//! NOTIFY makes committing transactions wait for each other, so no request does it. A server with
//! watchers says so by a shared advisory lock on the connection that listens; lock and notices end
//! together. When that connection breaks, notices may be lost: then every watch ends, and clients
//! begin anew.
#![expect(clippy::disallowed_types, reason = "listening needs a connection of its own")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entity::{OrganizationId, UserId};
use sea_orm::Values;
use serde::{Deserialize, Serialize};
use sqlx::{
    Executor, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::{
    Access, Change, Transaction,
    driver::Parameters,
    pending_changes::{Batch, PendingChanges},
    pool::ConnectionPool,
};
use crate::error::{Error, Result};

const CHANNEL: &str = "tenantry";

/// Changes are collected for this long before they are told.
const COALESCE: Duration = Duration::from_millis(15);

/// PostgreSQL's limit is 8000 bytes for a notice; this many changes fit.
const CHANGES_OF_NOTICE: usize = 50;

/// Changes that a watcher may be behind.
const BACKLOG: usize = 256;

/// How long to wait for the connection that listens.
const READY_WAIT: Duration = Duration::from_secs(5);

/// How long it stays without watchers, and how long to wait after it broke.
const LINGER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// How often the connection that listens is asked whether it lives, and how long it may take to say
/// so.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_WAIT: Duration = Duration::from_secs(5);

/// The notice of servers of earlier versions that some were lost, of whatever organization.
const LOST: &str = "lost";

/// Two numbers name the advisory lock of servers with watchers: "tenantry" in ASCII.
const WATCHED: (i32, i32) = (0x7465_6e61, 0x6e74_7279);

/// Tells the notices, provided that anybody watches in this database.
const TELL: &str = "SELECT pg_notify($1, notice) FROM unnest($2::text[]) notice
    WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = $3::int8::oid AND objid = $4::int8::oid AND objsubid = 2)";

#[derive(Debug, Serialize, Deserialize)]
struct Notification {
    organization: OrganizationId,
    changes: Vec<Change>,
    /// Further changes were too many to be reported: the organization's watches must end.
    #[serde(default)]
    lost: bool,
}

/// The notices of a database; cheap to clone.
#[derive(Clone, Debug)]
pub struct ChangeFeed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: ConnectionPool,
    listen: PgConnectOptions,
    pending: PendingChanges,
    senders: Mutex<HashMap<OrganizationId, broadcast::Sender<Change>>>,
    subscribers: watch::Sender<usize>,
    /// The connection that listens is there.
    ready: watch::Sender<bool>,
}

/// The changes of an organization from now on.
#[derive(Debug)]
pub struct Subscriber {
    /// None until the database is listened to.
    changes: Option<broadcast::Receiver<Change>>,
    change_feed: ChangeFeed,
    organization: OrganizationId,
}

/// Why a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriberEnded {
    /// Changes came faster than they were taken.
    #[error("changes came faster than this subscription took them")]
    Behind,
    /// Changes may have been lost.
    #[error("the connection that tells of changes broke")]
    Broken,
}

impl ChangeFeed {
    pub(super) fn new(system: ConnectionPool, listen: PgConnectOptions) -> Self {
        Self(Arc::new(Inner {
            system,
            listen: listen.application_name("tenantry listen"),
            pending: PendingChanges::default(),
            senders: Mutex::default(),
            subscribers: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        }))
    }

    /// Takes changes that were just committed, to tell them soon.
    pub(super) fn publish(&self, changes: Vec<(OrganizationId, Change)>) {
        if !changes.is_empty() {
            self.0.pending.add(changes);
        }
    }

    /// The channel, and the notice that what a user may do in an organization has changed; of
    /// everybody, without a user. For commands, which tell in their own transaction.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn of_access(
        organization: Uuid,
        user: Option<Uuid>,
    ) -> Result<(&'static str, String), serde_json::Error> {
        let organization = OrganizationId(organization);
        let changes = vec![Change::Access(user.map(UserId))];
        let notification = Notification { organization, changes, lost: false };
        Ok((CHANNEL, serde_json::to_string(&notification)?))
    }

    /// Tells what waits: for programs that end before [`run`](Self::run) would.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn flush(&self) -> Result<()> {
        self.tell(&self.0.pending.take()).await
    }

    /// Watches an organization. What was committed before may be told or not, what is committed
    /// from now on is.
    ///
    /// # Errors
    ///
    /// When the database cannot be listened to.
    pub async fn subscribe(&self, organization: OrganizationId) -> Result<Subscriber> {
        self.0.subscribers.send_modify(|count| *count += 1);
        // From here on its drop counts down.
        let mut subscriber = Subscriber { changes: None, change_feed: self.clone(), organization };
        let mut ready = self.0.ready.subscribe();
        tokio::time::timeout(READY_WAIT, ready.wait_for(|ready| *ready))
            .await
            .map_err(|_| Error::unavailable("the database cannot be listened to"))?
            .map_err(Error::internal)?;
        let mut senders = self.senders();
        if !*self.0.ready.borrow() {
            return Err(Error::unavailable("the database is listened to no more"));
        }
        let sender = senders.entry(organization).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        subscriber.changes = Some(sender.subscribe());
        Ok(subscriber)
    }

    /// How many watch on this server.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        *self.0.subscribers.borrow()
    }

    /// Tells and listens until `stop` says so; what was committed by then is told.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.tell_on(stop) => {}
            () = self.listen_on() => {}
        }
    }

    async fn tell_on(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopping = tokio::select! {
                biased;
                () = self.0.pending.arrived() => false,
                // The sender may be gone: that is a stop as well.
                _ = stop.wait_for(|stop| *stop) => true,
            };
            tokio::time::sleep(COALESCE).await;
            self.tell_until_told(&stop).await;
            if stopping {
                return;
            }
        }
    }

    /// A database that is away comes back; whoever watches meanwhile must not miss what was
    /// committed before.
    async fn tell_until_told(&self, stop: &watch::Receiver<bool>) {
        loop {
            let batch = self.0.pending.take();
            let Err(error) = self.tell(&batch).await else { return };
            tracing::warn!(%error, "changes were not told: again soon");
            self.0.pending.put_back(batch);
            if *stop.borrow() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn tell(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut notifications = Vec::new();
        for organization in batch.lost() {
            notifications.push(Notification { organization, changes: Vec::new(), lost: true });
        }
        for (organization, changes) in batch.changes() {
            for changes in changes.chunks(CHANGES_OF_NOTICE) {
                notifications.push(Notification {
                    organization,
                    changes: changes.to_vec(),
                    lost: false,
                });
            }
        }
        let notifications = notifications.iter().map(serde_json::to_string);
        let notifications =
            notifications.collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
        let values = vec![
            CHANNEL.into(),
            notifications.into(),
            i64::from(WATCHED.0).into(),
            i64::from(WATCHED.1).into(),
        ];
        let parameters = Parameters::of(Some(Values(values)))?;
        let (transaction, _) =
            Transaction::begin(&self.0.system, Access::Write, None, TELL, &parameters).await?;
        transaction.commit().await
    }

    async fn listen_on(&self) {
        let mut subscribers = self.0.subscribers.subscribe();
        while subscribers.wait_for(|count| *count > 0).await.is_ok() {
            let outcome = self.listen(&mut subscribers).await;
            if let Err(error) = outcome {
                tracing::warn!(%error, "listening to the database ended: subscriptions begin anew");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Listens until nobody has watched for a while, or the connection breaks.
    async fn listen(&self, subscribers: &mut watch::Receiver<usize>) -> Result<(), sqlx::Error> {
        let pool: PgPool =
            PgPoolOptions::new().max_connections(1).connect_lazy_with(self.0.listen.clone());
        let outcome = self.hear(&pool, subscribers).await;
        // Watches end when what sends to them is gone; new ones wait for the next connection.
        self.0.ready.send_replace(false);
        self.senders().clear();
        // Ends the connection, and the lock with it.
        pool.close().await;
        outcome
    }

    async fn hear(
        &self,
        pool: &PgPool,
        subscribers: &mut watch::Receiver<usize>,
    ) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        let (class, object) = WATCHED;
        let lock = sqlx::query("SELECT pg_advisory_lock_shared($1, $2)").bind(class).bind(object);
        (&mut listener).execute(lock).await?;
        self.0.ready.send_replace(true);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                notification = listener.try_recv() => match notification? {
                    Some(notification) if notification.payload() == LOST => self.senders().clear(),
                    Some(notification) => self.dispatch(notification.payload()),
                    None => return Err(sqlx::Error::WorkerCrashed),
                },
                // A connection may end without a word; so would every event.
                _ = heartbeat.tick() => {
                    let alive = (&mut listener).execute("SELECT 1");
                    tokio::time::timeout(HEARTBEAT_WAIT, alive).await.map_err(|_| sqlx::Error::WorkerCrashed)??;
                }
                () = no_subscribers(subscribers) => return Ok(()),
            }
        }
    }

    fn dispatch(&self, payload: &str) {
        let Ok(notification) = serde_json::from_str::<Notification>(payload) else {
            // From another version of the server, for example.
            tracing::warn!("a notice was not understood");
            return;
        };
        let mut senders = self.senders();
        if notification.lost {
            // Without a sender its watches end.
            senders.remove(&notification.organization);
        }
        let Some(sender) = senders.get(&notification.organization) else {
            return;
        };
        for change in notification.changes {
            // Nobody may watch any more.
            let _ = sender.send(change);
        }
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<OrganizationId, broadcast::Sender<Change>>> {
        self.0.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when nobody has watched for a while.
async fn no_subscribers(subscribers: &mut watch::Receiver<usize>) {
    loop {
        if subscribers.wait_for(|count| *count == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
        let again = tokio::time::timeout(LINGER, subscribers.wait_for(|count| *count > 0)).await;
        if again.is_err() {
            return;
        }
    }
}

impl Subscriber {
    /// The next change.
    ///
    /// # Errors
    ///
    /// When the watch has ended.
    pub async fn next(&mut self) -> Result<Change, SubscriberEnded> {
        let Some(changes) = &mut self.changes else {
            return Err(SubscriberEnded::Broken);
        };
        changes.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(_) => SubscriberEnded::Behind,
            broadcast::error::RecvError::Closed => SubscriberEnded::Broken,
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut senders = self.change_feed.senders();
        self.changes = None;
        if senders.get(&self.organization).is_some_and(|sender| sender.receiver_count() == 0) {
            senders.remove(&self.organization);
        }
        drop(senders);
        self.change_feed.0.subscribers.send_modify(|count| *count -= 1);
    }
}
