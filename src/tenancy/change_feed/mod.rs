//! The change feed: publishes committed changes to subscribers on all servers, with NOTIFY.
//!
//! NOTIFY serializes commits, so no request sends it: a background task publishes changes in
//! batches, and only while some server has subscribers. Such a server holds a shared advisory lock
//! on its listening connection, so the lock and the subscription end together. When that connection
//! breaks, changes may be lost; all subscribers are then disconnected and must start again.

mod change;
mod notify_queue;

use std::{collections::HashMap, sync::Arc, time::Duration};

use entity::OrganizationId;
use parking_lot::Mutex;
use pg::{ConnectOptions, ConnectionPool, Listener};
use sea_orm::Values;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{Access, pools::query_once};
use crate::error::{Error, Result};

pub use change::Change;
pub(super) use change::Changes;
use notify_queue::{Batch, NotifyQueue};

const CHANNEL: &str = "tenantry";

/// How long changes are collected before they are published together.
const COALESCE: Duration = Duration::from_millis(15);

/// The maximum number of changes per notification. PostgreSQL limits the payload to 8000 bytes.
const CHANGES_OF_NOTICE: usize = 50;

/// How many changes a subscriber may lag behind.
const BACKLOG: usize = 256;

/// How long a new subscriber waits for the listening connection.
const READY_WAIT: Duration = Duration::from_secs(5);

/// How long the listening connection stays open without subscribers, and the pause after a failure.
const LINGER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// The interval of checks of the listening connection, and how long one may take.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_WAIT: Duration = Duration::from_secs(5);

/// The key of the advisory lock of servers with subscribers: "tenantry" in ASCII.
const WATCHED: (i32, i32) = (0x7465_6e61, 0x6e74_7279);

/// Sends notifications if any server has subscribers in this database.
const NOTIFY: &str = "SELECT pg_notify($1, notification) FROM unnest($2::text[]) notification
    WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = $3::int8::oid AND objid = $4::int8::oid AND objsubid = 2)";

#[derive(Debug, Serialize, Deserialize)]
struct Notification {
    /// `None`: all organizations.
    organization: Option<OrganizationId>,
    changes: Vec<Change>,
    /// Whether too many changes were pending. Then the organization's subscribers are disconnected.
    #[serde(default)]
    lost: bool,
}

/// The change feed of a database; cheap to clone.
#[derive(Clone, Debug)]
pub struct ChangeFeed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: ConnectionPool,
    listen: ConnectOptions,
    pending: NotifyQueue,
    senders: Mutex<HashMap<OrganizationId, broadcast::Sender<Change>>>,
    subscribers: watch::Sender<usize>,
    /// Whether the listening connection is ready.
    ready: watch::Sender<bool>,
}

/// A subscriber to the changes of one organization.
#[derive(Debug)]
pub struct Subscriber {
    /// `None` until the listening connection is ready.
    changes: Option<broadcast::Receiver<Change>>,
    change_feed: ChangeFeed,
    organization: OrganizationId,
}

/// Why a subscriber was disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriberEnded {
    /// The subscriber did not keep up.
    #[error("the subscription did not keep up with the changes")]
    Behind,
    /// The listening connection broke, so changes may be lost.
    #[error("the connection that receives changes broke")]
    Broken,
}

impl ChangeFeed {
    pub(super) fn new(system: ConnectionPool, listen: ConnectOptions) -> Self {
        Self(Arc::new(Inner {
            system,
            listen: listen.with("application_name", "tenantry listen"),
            pending: NotifyQueue::default(),
            senders: Mutex::default(),
            subscribers: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        }))
    }

    /// Queues committed changes for publishing.
    pub(super) fn publish(&self, changes: Vec<(OrganizationId, Change)>) {
        if !changes.is_empty() {
            self.0.pending.add(changes);
        }
    }

    /// The channel and the payload that report a change in an organization, or in all of them. For
    /// commands, which send it in their transaction.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialized.
    pub fn notification(
        organization: Option<Uuid>,
        change: Change,
    ) -> Result<(&'static str, String), serde_json::Error> {
        let organization = organization.map(OrganizationId);
        let notification = Notification { organization, changes: vec![change], lost: false };
        Ok((CHANNEL, serde_json::to_string(&notification)?))
    }

    /// Publishes the queued changes at once, for programs that do not [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn flush(&self) -> Result<()> {
        self.send_batch(&self.0.pending.take()).await
    }

    /// Subscribes to an organization. The subscriber receives every change committed from now on,
    /// and possibly earlier ones.
    ///
    /// # Errors
    ///
    /// When the listening connection is not ready in time.
    pub async fn subscribe(&self, organization: OrganizationId) -> Result<Subscriber> {
        self.0.subscribers.send_modify(|count| *count += 1);
        // From here on, dropping it decrements the count.
        let mut subscriber = Subscriber { changes: None, change_feed: self.clone(), organization };
        let mut ready = self.0.ready.subscribe();
        timeout(READY_WAIT, ready.wait_for(|ready| *ready))
            .await
            .map_err(|_| {
                Error::unavailable("the database connection that receives changes is not ready")
            })?
            .map_err(Error::internal)?;
        let mut senders = self.0.senders.lock();
        if !*self.0.ready.borrow() {
            return Err(Error::unavailable("the database connection that receives changes broke"));
        }
        let sender = senders.entry(organization).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        subscriber.changes = Some(sender.subscribe());
        Ok(subscriber)
    }

    /// The number of subscribers on this server.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        *self.0.subscribers.borrow()
    }

    /// Publishes and listens until `stop` is set. Publishes everything that was committed by then.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.publish_until_stopped(stop) => {}
            () = self.keep_listening() => {}
        }
    }

    async fn publish_until_stopped(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopping = tokio::select! {
                biased;
                () = self.0.pending.arrived() => false,
                // A dropped sender also means stop.
                _ = stop.wait_for(|stop| *stop) => true,
            };
            tokio::time::sleep(COALESCE).await;
            self.send_with_retries(&stop).await;
            if stopping {
                return;
            }
        }
    }

    /// Publishes until the database accepts the changes. Subscribers on other servers may still be
    /// connected and must not miss them.
    async fn send_with_retries(&self, stop: &watch::Receiver<bool>) {
        loop {
            let batch = self.0.pending.take();
            let Err(error) = self.send_batch(&batch).await else { return };
            tracing::warn!(%error, "could not publish changes; retrying");
            self.0.pending.put_back(batch);
            if *stop.borrow() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send_batch(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut notifications = Vec::new();
        for organization in batch.lost() {
            let organization = Some(organization);
            notifications.push(Notification { organization, changes: Vec::new(), lost: true });
        }
        for (organization, changes) in batch.changes() {
            for changes in changes.chunks(CHANGES_OF_NOTICE) {
                notifications.push(Notification {
                    organization: Some(organization),
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
        query_once(&self.0.system, Access::Write, NOTIFY, Some(Values(values))).await?;
        Ok(())
    }

    async fn keep_listening(&self) {
        let mut subscribers = self.0.subscribers.subscribe();
        while subscribers.wait_for(|count| *count > 0).await.is_ok() {
            let outcome = self.listen(&mut subscribers).await;
            if let Err(error) = outcome {
                tracing::warn!(
                    cause = error.cause(),
                    "the connection that receives changes broke; subscribers are disconnected"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Listens until there were no subscribers for a while, or the connection breaks. Closing it
    /// releases the lock.
    async fn listen(&self, subscribers: &mut watch::Receiver<usize>) -> Result<()> {
        let outcome = self.receive(subscribers).await;
        // Subscribers end with their senders; new ones wait for the next connection.
        self.0.ready.send_replace(false);
        self.0.senders.lock().clear();
        outcome
    }

    async fn receive(&self, subscribers: &mut watch::Receiver<usize>) -> Result<()> {
        let lost = || Error::unavailable("the connection does not respond");
        let (class, object) = WATCHED;
        let connecting = async {
            let listener = Listener::connect(&self.0.listen, CHANNEL).await?;
            listener.execute("SELECT pg_advisory_lock_shared($1, $2)", &[&class, &object]).await?;
            Ok::<_, pg::Error>(listener)
        };
        let mut listener = timeout(CONNECT_WAIT, connecting).await.map_err(|_| lost())??;
        self.0.ready.send_replace(true);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                payload = listener.next() => self.dispatch(&payload.ok_or_else(lost)?),
                // A connection can die silently, and its changes with it.
                _ = heartbeat.tick() => {
                    let alive = timeout(HEARTBEAT_WAIT, listener.batch("SELECT 1")).await;
                    alive.map_err(|_| lost())??;
                }
                () = no_subscribers(subscribers) => return Ok(()),
            }
        }
    }

    fn dispatch(&self, payload: &str) {
        let Ok(notification) = serde_json::from_str::<Notification>(payload) else {
            tracing::warn!("ignored a change notification with an unknown format");
            return;
        };
        let mut senders = self.0.senders.lock();
        let Notification { organization, changes, lost } = notification;
        if let Some(organization) = organization.filter(|_| lost) {
            // Without a sender the subscribers are disconnected.
            senders.remove(&organization);
        }
        let send = |sender: &broadcast::Sender<Change>| {
            for change in &changes {
                // Fails if the last subscriber has just left.
                let _ = sender.send(change.clone());
            }
        };
        match organization {
            Some(organization) => senders.get(&organization).into_iter().for_each(send),
            None => senders.values().for_each(send),
        }
    }
}

/// Resolves after a while without subscribers.
async fn no_subscribers(subscribers: &mut watch::Receiver<usize>) {
    loop {
        if subscribers.wait_for(|count| *count == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
        let again = timeout(LINGER, subscribers.wait_for(|count| *count > 0)).await;
        if again.is_err() {
            return;
        }
    }
}

impl Subscriber {
    /// Waits for the next change.
    ///
    /// # Errors
    ///
    /// When the subscriber was disconnected.
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
        let mut senders = self.change_feed.0.senders.lock();
        self.changes = None;
        if senders.get(&self.organization).is_some_and(|sender| sender.receiver_count() == 0) {
            senders.remove(&self.organization);
        }
        drop(senders);
        self.change_feed.0.subscribers.send_modify(|count| *count -= 1);
    }
}
