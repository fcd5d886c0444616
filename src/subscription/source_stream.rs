//! A source of events. It waits for changes of an organization and reads each in a short
//! transaction, with what its user may see at that time.
//!
//! All subscriptions of one user to the same operation share a source, so a thousand of them cost
//! one read for each event. Responses are never shared between users. Opening the transaction
//! verifies identity, membership and role, and fields may differ between users.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use async_graphql::{Request, Response};
use chrono::{DateTime, Utc};
use entity::{OrganizationId, UserId};
use tokio::time::{sleep, timeout};

use super::subscribers::{Event, Subscribers};
use crate::{
    admission::FairQueue,
    error::{Error, Result},
    graphql::{Event as Subject, Queue, SubscriptionTraits, present, request_loaders},
    plan::ENTITLEMENTS,
    request::{GraphqlService, Prepared, RequestContext},
    schema::to_request,
    tenancy::{Access, Change, OpenFor, Session, Subscriber, open},
    usage::{Entitlements, entitlements},
};

/// The parts that a source is built from.
pub(super) struct Blueprint {
    pub(super) service: Arc<GraphqlService>,
    pub(super) prepared: Prepared,
    /// The request of the first subscriber. Later subscribers are the same user with the same
    /// claims.
    pub(super) call: RequestContext,
    pub(super) traits: SubscriptionTraits,
    pub(super) user: UserId,
    pub(super) organization: OrganizationId,
    pub(super) queue: FairQueue,
}

/// Reads events while it runs.
pub(super) struct Source {
    blueprint: Blueprint,
    watch: Subscriber,
    /// The entitlements as last sent, so that only changes are sent.
    known: Entitlements,
    audience: Arc<Subscribers>,
}

/// A transaction that reads one event.
struct Reading {
    session: Arc<Session>,
    billing_version: Option<DateTime<Utc>>,
}

impl Drop for Source {
    /// Releases the subscribers, even if the task was aborted or panicked.
    fn drop(&mut self) {
        self.audience.close();
    }
}

impl Source {
    /// Starts receiving changes. Every change that is committed from now on is sent.
    pub(super) async fn begin(blueprint: Blueprint, audience: Arc<Subscribers>) -> Result<Self> {
        let change_feed = blueprint.service.databases.change_feed();
        let watch = change_feed.subscribe(blueprint.organization).await?;
        let mut source = Self { blueprint, watch, known: Entitlements::default(), audience };
        if source.blueprint.traits.topic == ENTITLEMENTS {
            // Read after the source started receiving, so that no change is missed.
            let _permit = source.blueprint.permit().await?;
            let reading = source.blueprint.open().await?;
            source.known = source.blueprint.entitlements(&reading).await?;
        }
        Ok(source)
    }

    /// Sends events until an error ends the source.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.next().await {
                self.blueprint.service.metrics.limited(&error);
                self.audience.end(error).await;
                return;
            }
        }
    }

    /// Waits for a change and sends it, if it concerns the subscribers.
    async fn next(&mut self) -> Result<()> {
        let change = tokio::select! {
            change = self.watch.next() => change.map_err(Error::unavailable)?,
            () = self.blueprint.wait_until(self.known.changes_at) => Change::new(ENTITLEMENTS),
        };
        if change.is_access_of(self.blueprint.user) {
            let _permit = self.blueprint.permit().await?;
            self.blueprint.open().await.map(drop)
        } else if change.topic != self.blueprint.traits.topic {
            Ok(())
        } else if change.topic == ENTITLEMENTS {
            self.send_entitlements().await
        } else {
            self.send(change).await
        }
    }

    async fn send(&self, change: Change) -> Result<()> {
        let permit = self.blueprint.permit().await?;
        let reading = self.blueprint.open().await?;
        let response = self.blueprint.execute(&reading.session, change).await?;
        reading.session.transaction().release();
        drop(permit);
        self.deliver(&reading, &response).await
    }

    async fn send_entitlements(&mut self) -> Result<()> {
        let permit = self.blueprint.permit().await?;
        let reading = self.blueprint.open().await?;
        let now = self.blueprint.entitlements(&reading).await?;
        let mut responses = Vec::new();
        for entitlement in &now.list {
            // The usage of meters is left out: every request counts a call, and they would drown
            // the changes that users make.
            let known = self
                .known
                .list
                .iter()
                .find(|known| known.feature.feature == entitlement.feature.feature);
            let same = known.is_some_and(|known| {
                known.allowance == entitlement.allowance
                    && (known.used == entitlement.used || entitlement.resets_at.is_some())
            });
            if !same {
                responses
                    .push(self.blueprint.execute(&reading.session, entitlement.clone()).await?);
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

    /// Counts an API call, and sends the event unless the calls are used up. No connection is held
    /// in the meantime.
    async fn deliver(&self, reading: &Reading, response: &Response) -> Result<()> {
        let service = &self.blueprint.service;
        let counting = service.count(reading.session.tenant(), reading.billing_version);
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

    /// Opens a transaction, which reads identity, membership and role again.
    async fn open(&self) -> Result<Reading> {
        let GraphqlService { databases, settings, .. } = self.service.as_ref();
        let RequestContext { caller, destination, .. } = &self.call;
        let opening = open(databases, settings, caller, destination, &OpenFor::Query);
        let opened = timeout(self.service.timeout, opening).await.map_err(|_| Error::Timeout)??;
        let tenant = opened.session.authorize(self.traits.permission)?;
        if tenant.organization_id != self.organization {
            // The slug now belongs to another organization.
            return Err(Error::OrganizationNotFound);
        }
        opened.session.transaction().limit(self.call.budget);
        let billing_version = opened.billing_version;
        Ok(Reading { session: opened.session, billing_version })
    }

    /// Never resolves without a time.
    async fn wait_until(&self, time: Option<DateTime<Utc>>) {
        let Some(time) = time else { return pending().await };
        let left = time - self.service.settings.clock.now();
        // The clock may be a little behind the timer, and the change takes effect at the time.
        sleep(left.to_std().unwrap_or_default() + Duration::from_millis(1)).await;
    }

    async fn entitlements(&self, reading: &Reading) -> Result<Entitlements> {
        entitlements(&reading.session, &self.service.meter, None).await
    }

    async fn execute<T: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        subject: T,
    ) -> Result<Response> {
        let queue = Queue::default();
        let loaders = request_loaders(session, queue.clone(), Access::Read);
        let request: Request = to_request(self.prepared.document())
            .data(Subject(subject))
            .data(Arc::clone(session))
            .data(self.service.meter.clone())
            .data(loaders);
        let executing = pin!(self.service.api.execute_event(request));
        let driving = queue.drive(session.transaction(), executing);
        let executed = timeout(self.service.timeout, driving).await;
        if let Some(failure) = session.transaction().failure() {
            return Err(failure.into());
        }
        let response = executed.map_err(|_| Error::Timeout)?;
        let mut response =
            response.ok_or_else(|| Error::internal("a subscription event has no response"))?;
        present(&mut response, self.call.request_id);
        Ok(response)
    }
}
