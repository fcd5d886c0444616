//! Opens a session: one message begins the transaction, resolves caller and organization, and
//! applies the settings. Where the operation leads is known before, so a session is opened once, in
//! the right organization, and stays there.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::PlanTerms;
use uuid::Uuid;

use super::{
    Access, Databases, Destination, Freshness, OpenFor, Session, Settings, Tenant, Transaction,
    Viewer,
    dedicated::Remote,
    enter::{Invited, enter_invited, enter_new, token_hash},
    entry::Token,
    opening::{NOT_INVITED, Opening, Place},
    placement::Placement,
    placement_routing::OpenedTransaction,
    provision::begin_recorded,
    session_request::{OPEN, SessionContext, SessionRequest, elsewhere, plan_terms, tenant},
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// An opened session, and what the caller of [`open`] needs to know about it.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Arc<Session>,
    /// The organization that the request names, if any. The request's API call counts for it, and
    /// its idempotency key belongs to it. The session may be in another one: see [`OpenFor`].
    pub requested: Option<Tenant>,
    /// The current slug, if the request used a retired one.
    pub moved_to: Option<String>,
    /// When the requested organization's billing last changed. Results computed from earlier
    /// billing data are outdated.
    pub billing_version: Option<DateTime<Utc>>,
    /// What decides the requested organization's plan, if the opening has read it.
    pub plan_terms: Option<PlanTerms>,
    /// Whether the replica serves the session.
    pub at_replica: bool,
}

/// Opens a session for a caller. Creates the user of a new identity first, and updates one whose
/// e-mail address has changed.
///
/// # Errors
///
/// When the caller has no access to the organization, or the database cannot be reached.
pub async fn open(
    databases: &Databases,
    settings: &Settings,
    caller: &Caller,
    destination: &Destination,
    open_for: &OpenFor,
) -> Result<Opened> {
    let session_request = SessionRequest::of(caller, destination, settings);
    let cache = &databases.session_cache;
    let cached = cache.get(caller, destination);
    let guess = cached.map_or(Placement::Shared, |cached| cached.placement.clone());
    let (begun, session_request) =
        begin_recorded(databases, settings, caller, open_for, session_request, guess).await?;
    let OpenedTransaction { transaction, row, placement, remote } = begun;
    let context = SessionContext::read(&row).inspect_err(|error| {
        if matches!(error, Error::OrganizationNotFound) {
            cache.remove(caller, destination);
        }
    })?;
    let version = session_request.version(&row, &context, &placement)?;
    cache.insert(caller, destination, &context, &placement, version);
    let opening = Opening {
        databases: databases.clone(),
        open_for: open_for.clone(),
        session_request,
        placement,
    };
    let place = match open_for {
        OpenFor::Query | OpenFor::Mutation { .. } => {
            Place::requested(transaction, remote, context.tenant)
        }
        // Boxed: large, and rarely needed.
        _ => Box::pin(place(&opening, transaction, &context, caller, settings)).await?,
    };
    let is_followed = databases.replica().is_some() && place.remote.is_none();
    if is_followed && open_for.access() == Access::Write {
        place.transaction.want_lsn();
    }
    let plan_terms = plan_terms(&row)?;
    Ok(Opened { plan_terms, ..opened(settings, caller, destination, context, place, opening) })
}

/// Opens the session of a query at a replica that is fresh enough. Returns `None` if the primary
/// must serve it.
///
/// # Errors
///
/// When the answer of the replica cannot be read.
pub async fn open_at_replica(
    databases: &Databases,
    settings: &Settings,
    caller: &Caller,
    destination: &Destination,
    freshness: Freshness,
) -> Result<Option<Opened>> {
    let Some(replica) = databases.replica() else { return Ok(None) };
    let session_request = SessionRequest::of(caller, destination, settings);
    let cache = &databases.session_cache;
    let cached = cache.get(caller, destination);
    // The replica of the control database has no rows of a dedicated database, only its name.
    let placement = cached.as_ref().map(|cached| cached.placement.clone());
    let placement = placement.map_or(Placement::Shared, Placement::unless_dedicated_database);
    let parameters = session_request.parameters(&placement.name())?;
    let begun = replica.begin(freshness, &placement, OPEN, &parameters).await;
    let begun = begun.filter(|(_, row)| matches!(elsewhere(row, &placement), Ok(None)));
    let Some((transaction, row)) = begun else { return Ok(None) };
    let context = SessionContext::read(&row)?;
    if cached.is_none() {
        cache.insert(caller, destination, &context, &placement, None);
    }
    let (databases, open_for) = (databases.clone(), OpenFor::Query);
    let opening = Opening { databases, open_for, session_request, placement };
    let place = Place::requested(transaction, None, context.tenant);
    let opened = opened(settings, caller, destination, context, place, opening);
    // A replica's older version would look like a change to the meter.
    Ok(Some(Opened { billing_version: None, at_replica: true, ..opened }))
}

/// Continues in the organization to which the operation leads. `transaction` is in the control
/// database, where the request was verified.
async fn place(
    opening: &Opening,
    mut transaction: Transaction,
    context: &SessionContext,
    caller: &Caller,
    settings: &Settings,
) -> Result<Place> {
    let Opening { databases, open_for, session_request, placement } = opening;
    let (invitation, is_unchanged) = match open_for {
        OpenFor::NewOrganization => {
            let tenant = enter_new(&mut transaction).await?;
            return Ok(Place::requested(transaction, None, Some(tenant)));
        }
        OpenFor::Invitation(key) => {
            let email = caller.email.as_deref().filter(|_| context.email_is_current);
            let hash = token_hash(&transaction, key).await?;
            let token = Token { hash, now: settings.clock.now(), email };
            let user = context.user_id;
            match enter_invited(databases, session_request, user, &mut transaction, &token).await? {
                Invited::Entered(invitation, there) => {
                    let (tenant, invitation) = (Some(invitation.tenant()), Ok(invitation.id));
                    let (transaction, remote) = match there {
                        Some(there) => Remote::after(transaction, *there),
                        None => (transaction, None),
                    };
                    return Ok(Place { transaction, remote, tenant, invitation });
                }
                Invited::Refused { error, is_unchanged } => (Err(error), is_unchanged),
            }
        }
        OpenFor::Query | OpenFor::Mutation { .. } | OpenFor::User => (Err(NOT_INVITED), true),
    };
    if is_unchanged && !matches!(placement, Placement::Database(_)) {
        return Ok(Place { transaction, remote: None, tenant: context.tenant, invitation });
    }
    // The control database has only copies of the organization, from which nothing is read.
    transaction.roll_back().await;
    let (requests, system) = (&databases.requests, &databases.system);
    let (outside, name) = (session_request.outside(), Placement::Shared.name());
    let (transaction, row) = outside.open(requests, system, Access::Write, None, &name).await?;
    Ok(Place { transaction, remote: None, tenant: tenant(&row)?, invitation })
}

/// Builds the session.
pub(super) fn opened(
    settings: &Settings,
    caller: &Caller,
    destination: &Destination,
    context: SessionContext,
    place: Place,
    opening: Opening,
) -> Opened {
    let SessionContext { user_id, tenant, organization, billing_version, email_is_current } =
        context;
    // A claim with an organization's id does not name a slug.
    let by_claim = caller.organization.as_ref().filter(|claim| Uuid::try_parse(claim).is_err());
    let asked = destination.slug.as_ref().or(by_claim);
    let slug = organization.as_ref().map(|organization| organization.slug.clone());
    let moved_to = slug.filter(|current| asked.is_some_and(|asked| asked != current));
    let verified_email = caller.email.clone().filter(|_| email_is_current);
    let unverified_email = caller.unverified_email.clone();
    let client_ip = destination.client_ip;
    let viewer = Viewer { user_id, verified_email, unverified_email, client_ip };
    // Mutations read the organization again under their locks.
    let organization = organization.filter(|_| opening.open_for.access() == Access::Read);
    let session = Session::new(place, viewer, organization, settings, opening);
    let (requested, plan_terms, at_replica) = (tenant, None, false);
    Opened { session, requested, moved_to, billing_version, plan_terms, at_replica }
}
