//! A source of events: waits for changes of an organization, and reads each in a short transaction,
//! as what its user may see then. All subscriptions of one user to the same operation share a
//! source, so that a user who subscribes a thousand times costs one read for each event.
//!
//! Answers are never shared between users: the opening of the transaction that reads an event is
//! what verifies identity, membership and role, and fields may answer differently to each of them.

use std::sync::Arc;

use async_graphql::{Request, Response};
use chrono::{DateTime, Utc};
use entity::{OrganizationId, UserId};
use tokio::time::timeout;

use super::{
    audience::{Audience, Event},
    topic::Topic,
};
use crate::{
    admission::FairQueue,
    error::{Error, Result},
    graphql::{Event as Subject, Loaders, Queue, present},
    request::{Call, GraphqlService, Prepared},
    schema::to_request,
    tenancy::{Access, Change, Preference, Session, Subscriber, open},
    usage::{Allotment, entitlements},
};

/// What a source is made from.
pub(super) struct Blueprint {
    pub(super) service: Arc<GraphqlService>,
    pub(super) prepared: Prepared,
    /// Of the first subscriber; those who join are the same user with the same claims.
    pub(super) call: Call,
    pub(super) topic: Topic,
    pub(super) user: UserId,
    pub(super) organization: OrganizationId,
    pub(super) queue: FairQueue,
}

/// Reads events, for as long as it runs.
pub(super) struct Source {
    blueprint: Blueprint,
    watch: Subscriber,
    /// As sent last, to send only what has changed.
    known: Vec<Allotment>,
    audience: Arc<Audience>,
}

/// One transaction in which an event is read.
struct Reading {
    session: Arc<Session>,
    billing_version: Option<DateTime<Utc>>,
}

impl Drop for Source {
    /// However it ends, nobody waits for an event that cannot come.
    fn drop(&mut self) {
        self.audience.close();
    }
}

impl Source {
    /// Begins to watch: what is committed from now on is sent.
    pub(super) async fn begin(blueprint: Blueprint, audience: Arc<Audience>) -> Result<Self> {
        let change_feed = blueprint.service.databases.change_feed();
        let watch = change_feed.subscribe(blueprint.organization).await?;
        let mut source = Self { blueprint, watch, known: Vec::new(), audience };
        if source.blueprint.topic == Topic::Entitlements {
            // Read after the watch began, so that nothing falls between.
            let _permit = source.blueprint.permit().await?;
            let reading = source.blueprint.open().await?;
            source.known = entitlements(&reading.session, &source.blueprint.service.meter).await?;
        }
        Ok(source)
    }

    /// Sends events until one of them is why no other follows.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.next().await {
                self.blueprint.service.metrics.limited(&error);
                self.audience.end(error).await;
                return;
            }
        }
    }

    /// Waits for a change, and sends what it is to the subscribers, if it is anything to them.
    async fn next(&mut self) -> Result<()> {
        let Blueprint { topic, user, .. } = self.blueprint;
        match (self.watch.next().await.map_err(Error::unavailable)?, topic) {
            (Change::Access(of), _) if of.is_none_or(|of| of == user) => {
                let _permit = self.blueprint.permit().await?;
                self.blueprint.open().await.map(drop)
            }
            (Change::Project(id), Topic::Projects) => self.send(id).await,
            (Change::Member(id), Topic::Members) => self.send(id).await,
            (Change::AuditLog(at, id), Topic::Audit) => self.send((at, id)).await,
            (Change::Entitlements, Topic::Entitlements) => self.send_entitlements().await,
            _ => Ok(()),
        }
    }

    async fn send<T: Send + Sync + 'static>(&self, subject: T) -> Result<()> {
        let permit = self.blueprint.permit().await?;
        let reading = self.blueprint.open().await?;
        let response = self.blueprint.execute(&reading.session, subject).await?;
        reading.session.transaction().release();
        drop(permit);
        self.deliver(&reading, &response).await
    }

    async fn send_entitlements(&mut self) -> Result<()> {
        let permit = self.blueprint.permit().await?;
        let reading = self.blueprint.open().await?;
        let now = entitlements(&reading.session, &self.blueprint.service.meter).await?;
        let mut responses = Vec::new();
        for entitlement in &now {
            // Every request counts a call: these would drown the changes that users make.
            let known = self
                .known
                .iter()
                .find(|known| known.allowance.feature == entitlement.allowance.feature);
            let same = known.is_some_and(|known| {
                known.allowance == entitlement.allowance
                    && (known.used == entitlement.used || entitlement.resets_at.is_some())
            });
            if !same {
                responses.push(self.blueprint.execute(&reading.session, *entitlement).await?);
            }
        }
        reading.session.transaction().release();
        drop(permit);
        self.known = now;
        for response in responses {
            self.deliver(&reading, &response).await?;
        }
        Ok(())
    }

    /// Counts a call, and sends the event unless it is one too many. No connection is held
    /// meanwhile.
    async fn deliver(&self, reading: &Reading, response: &Response) -> Result<()> {
        let service = &self.blueprint.service;
        let counting = service.count(&reading.session, reading.billing_version);
        timeout(service.timeout, counting).await.map_err(|_| Error::Timeout)??;
        let json = serde_json::to_string(response).map_err(Error::internal)?;
        self.audience.send(&Event::Next(json.into())).await;
        Ok(())
    }
}

impl Blueprint {
    async fn permit(&self) -> Result<crate::admission::Permit> {
        self.queue.permit(self.organization).await
    }

    /// A new transaction, in which identity, membership and role are what they are now.
    async fn open(&self) -> Result<Reading> {
        let GraphqlService { databases, settings, .. } = self.service.as_ref();
        let Call { caller, destination, .. } = &self.call;
        let opening =
            open(databases, settings, caller, destination, Access::Read, Preference::Placement);
        let opened = timeout(self.service.timeout, opening).await.map_err(|_| Error::Timeout)??;
        let tenant = opened.session.authorize(self.topic.permission())?;
        if tenant.organization_id != self.organization {
            // The slug leads to another organization since.
            return Err(Error::OrganizationNotFound);
        }
        opened.session.transaction().limit(self.call.budget);
        let billing_version = opened.billing_version;
        Ok(Reading { session: Arc::new(opened.session), billing_version })
    }

    async fn execute<T: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        subject: T,
    ) -> Result<Response> {
        let queue = Queue::default();
        let loaders = Loaders::new(Arc::clone(session), queue.clone(), Access::Read);
        let request: Request = to_request(self.prepared.document())
            .data(Subject(subject))
            .data(Arc::clone(session))
            .data(self.service.meter.clone())
            .data(loaders);
        let executing = queue.drive(session.transaction(), self.service.api.tell(request));
        let executed = timeout(self.service.timeout, executing).await;
        if let Some(failure) = session.transaction().failure() {
            return Err(failure);
        }
        let response = executed.map_err(|_| Error::Timeout)?;
        let mut response = response.ok_or_else(|| Error::internal("an event has no response"))?;
        present(&mut response, self.call.request_id);
        Ok(response)
    }
}
