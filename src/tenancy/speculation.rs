//! Speculation: a query starts from the cached context of the caller's last session, in the message
//! that opens the session. PostgreSQL verifies the context first, in the same transaction, and the
//! response is sent only after [`Confirmation::wait`] has returned true.
//!
//! The statements of such a query are safe in any case: PostgreSQL executes them after the opening,
//! with the settings that the opening applied. Only the results may belong to an outdated context.

use std::sync::Arc;

use super::{
    Access, CachedContext, Databases, Destination, OpenFor, Opened, Session, Settings, Transaction,
    open::opened,
    opening::{Opening, Place},
    placement::Placement,
    session_request::{OPEN, REOPEN, SessionRequest},
};
use crate::{auth::Caller, error::Result};

/// What has to be confirmed before the response of a query is sent.
#[derive(Debug)]
pub struct Confirmation<'request> {
    cached: Arc<CachedContext>,
    databases: &'request Databases,
    caller: &'request Caller,
    destination: &'request Destination,
    /// The request of a full opening. `None` if the session is reopened.
    opening: Option<SessionRequest>,
}

/// Opens the session of a query on a cached context, without waiting for an answer. Returns `None`
/// if that is not possible.
///
/// # Errors
///
/// When the database cannot be reached.
pub async fn open_speculative<'request>(
    databases: &'request Databases,
    settings: &Settings,
    caller: &'request Caller,
    destination: &'request Destination,
    cached: Arc<CachedContext>,
) -> Result<Option<(Opened, Confirmation<'request>)>> {
    if !databases.session_cache.is_of_token(&cached, caller) {
        return Ok(None);
    }
    let session_request = SessionRequest::of(caller, destination, settings);
    let version = databases.session_cache.version(&cached, caller, destination);
    let version = cached.organization_id().zip(version);
    let (transaction, remote) = match &cached.placement {
        Placement::Database(name) => {
            // Boxed: large, and every request would carry it.
            let begun = async {
                databases.dedicated(name)?.begin_speculative(&session_request, name).await
            };
            let Ok((transaction, remote)) = Box::pin(begun).await else {
                // The organization may have moved.
                databases.session_cache.remove(caller, destination);
                return Ok(None);
            };
            (transaction, Some(remote))
        }
        placement => {
            let (sql, parameters) = match version {
                Some((organization, version)) => {
                    (REOPEN, session_request.reopening(organization, version)?)
                }
                None => (OPEN, session_request.parameters(&placement.name())?),
            };
            let requests = &databases.requests;
            let search_path = placement.search_path();
            let access = Access::Read;
            let begun =
                Transaction::begin_pipelined(requests, access, search_path, sql, parameters)
                    .await?;
            (begun, None)
        }
    };
    let full_opening = version.is_none().then(|| session_request.clone());
    let (context, placement) = (cached.context.clone(), cached.placement.clone());
    let place = Place::requested(transaction, remote, context.tenant);
    let (open_for, of_session) = (OpenFor::Query, databases.clone());
    let opening = Opening { databases: of_session, open_for, session_request, placement };
    let opened = opened(settings, caller, destination, context, place, opening);
    let confirmation =
        Confirmation { cached, databases, caller, destination, opening: full_opening };
    Ok(Some((opened, confirmation)))
}

impl Confirmation<'_> {
    /// Waits until the database has confirmed the context. If this returns `false`, discard all
    /// results of the session and open another one. Await it concurrently with the query, whose
    /// answers arrive after this one.
    ///
    /// # Errors
    ///
    /// When the opening failed.
    pub async fn wait(self, session: &Session) -> Result<bool> {
        let Self { cached, databases, caller, destination, opening } = self;
        let cache = &databases.session_cache;
        let is_confirmed = match session.transaction().first_answer().await {
            Some(Ok(rows)) => match (rows.first(), opening) {
                (Some(row), None) if row.try_get(0)? => return Ok(true),
                (Some(row), Some(request)) => {
                    let is_confirmed = cached.is_confirmed_by(row);
                    let context = is_confirmed.then(|| cached.context.clone());
                    if let Some(context) = context.or_else(|| cached.successor(row)) {
                        // The caller still has access, so the next request needs no other permit.
                        // With this token it can reopen the session.
                        let version = request.version(row, &context, &cached.placement)?;
                        cache.insert(caller, destination, &context, &cached.placement, version);
                        return Ok(is_confirmed);
                    }
                    Ok(false)
                }
                _ => Ok(false),
            },
            None => Ok(false),
            // The connection was dead, so nothing was executed on it.
            Some(Err(error)) if error.is_lost() => Ok(false),
            Some(Err(error)) => Err(error.into()),
        };
        cache.remove(caller, destination);
        is_confirmed
    }
}
