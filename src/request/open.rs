//! Admits a request and opens its session.

use entity::OrganizationId;
use tracing::Span;

use super::{GraphqlService, RequestContext};
use crate::{
    admission::ConcurrencyPermit,
    error::Result,
    tenancy::{
        Access, Confirmation, Freshness, OpenFor, Opened, open, open_at_replica, open_speculative,
    },
};

/// Where a query begins to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadFrom {
    /// At the primary, on the context of the caller's last session.
    CachedContext,
    /// At a replica that is fresh enough.
    Replica(Freshness),
    /// At the primary.
    Primary,
}

impl GraphqlService {
    /// Opens the session of an admitted request. The permit ends with the session, after the
    /// session's connection is free.
    ///
    /// A query opens one session. Its caller counts the call while the query is executed. Nothing
    /// of a mutation is executed before its call can be counted.
    ///
    /// # Errors
    ///
    /// As [`open`], and when the request is not admitted or no calls can be leased for a mutation.
    pub(crate) async fn open<'request>(
        &'request self,
        call: &'request RequestContext,
        open_for: &OpenFor,
        read_from: ReadFrom,
    ) -> Result<(Opened, Option<Confirmation<'request>>)> {
        let organization = || self.known_organization(call);
        let admitted = self.concurrency.acquire(&call.caller, &call.destination, organization);
        let permit = admitted.await.inspect_err(|_| {
            if let Some(organization) = organization() {
                Span::current().record("organization", tracing::field::display(organization.0));
            }
        })?;
        if let (OpenFor::Query, ReadFrom::CachedContext) = (open_for, read_from)
            && let Some((opened, confirmation)) = self.open_speculative(call, &permit).await?
        {
            opened.session.transaction().hold(permit);
            return Ok((opened, Some(confirmation)));
        }
        // Boxed: large, and most queries start from a cached context.
        let opened = Box::pin(self.open_verified(call, open_for, read_from, permit)).await?;
        Ok((opened, None))
    }

    /// The organization in which the caller's last session at this destination was.
    fn known_organization(&self, call: &RequestContext) -> Option<OrganizationId> {
        self.databases.cached_context(&call.caller, &call.destination)?.organization_id()
    }

    /// Opens on the cached context, unless the organization that would pay has no calls left.
    async fn open_speculative<'request>(
        &'request self,
        RequestContext { caller, destination, .. }: &'request RequestContext,
        permit: &ConcurrencyPermit,
    ) -> Result<Option<(Opened, Confirmation<'request>)>> {
        let Self { databases, settings, .. } = self;
        let Some(cached) = databases.cached_context(caller, destination) else { return Ok(None) };
        if let Some(organization) = cached.organization_id()
            && (!permit.is_of(organization) || self.meter.is_exhausted(organization))
        {
            return Ok(None);
        }
        open_speculative(databases, settings, caller, destination, cached).await
    }

    /// Opens a session that the database has verified, with a permit of its organization.
    async fn open_verified(
        &self,
        call: &RequestContext,
        open_for: &OpenFor,
        read_from: ReadFrom,
        permit: ConcurrencyPermit,
    ) -> Result<Opened> {
        let is_mutation = open_for.access() == Access::Write;
        let cached = self.databases.cached_context(&call.caller, &call.destination);
        if let Some(cached) = cached.filter(|_| is_mutation)
            && let Some(organization) = cached.organization_id().filter(|id| permit.is_of(*id))
        {
            self.meter.prepare(organization, cached.billing_version()).await?;
        }
        let opened = self.open_once(call, open_for, read_from).await?;
        let Some(tenant) = opened.requested else {
            opened.session.transaction().hold(permit);
            return Ok(opened);
        };
        let (organization, version) = (tenant.organization_id, opened.billing_version);
        if let Some(terms) = &opened.plan_terms {
            self.meter.learn(organization, terms);
        }
        let mut permit = if permit.is_of(organization) {
            Some(permit)
        } else {
            drop(permit);
            self.concurrency.try_acquire_own(organization)
        };
        let can_count = !is_mutation || self.meter.is_ready(organization, version);
        if let Some(permit) = permit.take_if(|_| can_count) {
            opened.session.transaction().hold(permit);
            return Ok(opened);
        }
        // Rare. A request waits for a permit or a lease of calls without holding a connection:
        // behind a connection pooler, that lease may have to wait for this very connection.
        opened.session.transaction().roll_back().await;
        drop(opened);
        let permit = match permit {
            Some(permit) => permit,
            None => self.concurrency.acquire_own(organization).await?,
        };
        if !can_count {
            self.meter.prepare(organization, version).await?;
        }
        let opened = self.open_once(call, open_for, read_from).await?;
        opened.session.transaction().hold(permit);
        Ok(opened)
    }

    async fn open_once(
        &self,
        RequestContext { caller, destination, .. }: &RequestContext,
        open_for: &OpenFor,
        read_from: ReadFrom,
    ) -> Result<Opened> {
        let Self { databases, settings, .. } = self;
        if let (OpenFor::Query, ReadFrom::Replica(freshness)) = (open_for, read_from) {
            let replica =
                open_at_replica(databases, settings, caller, destination, freshness).await?;
            if let Some(opened) = replica {
                return Ok(opened);
            }
        }
        open(databases, settings, caller, destination, open_for).await
    }
}
