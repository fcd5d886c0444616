//! What the openings of sessions said last. Like a home, that is a guess: a query is answered on it
//! while the database is still being asked, and the answer leaves when the database has said the
//! same again.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId, organization};
use lru::LruCache;
use sea_orm::ActiveEnum;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Suspension, Tenant, open::get, placement::Placement, routing::elsewhere,
    session_request::SessionRequest,
};
use crate::error::{Error, Result};

/// Openings that are remembered, of some 400 bytes each.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// The token belongs to a user who has been erased since.
pub(super) const ERASED: Error =
    Error::Unauthenticated("the token was issued before its user was erased");

/// What an opening led to, in the home in which it looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionContext {
    pub(super) user_id: UserId,
    pub(super) tenant: Option<Tenant>,
    pub(super) organization: Option<organization::Model>,
    pub(super) billing_version: Option<DateTime<Utc>>,
    /// No newer token of the identity has another address.
    pub(super) email_is_current: bool,
}

impl SessionContext {
    /// What the row of an opening says.
    ///
    /// # Errors
    ///
    /// When it says that nobody was let in.
    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            tenant: tenant(row)?,
            user_id: UserId(get(row, "user_id")?),
            organization: organization(row)?,
            billing_version: get(row, "billing_version")?,
            email_is_current: get(row, "email_is_current")?,
        })
    }
}

/// The organization that it led to.
pub(super) fn tenant(row: &Row) -> Result<Option<Tenant>> {
    match get(row, "outcome")? {
        "OK" => {}
        "MISMATCH" => return Err(Error::OrganizationMismatch),
        "NOT_FOUND" => return Err(Error::OrganizationNotFound),
        "ORGANIZATION_SUSPENDED" => return Err(Error::OrganizationSuspended),
        "USER_SUSPENDED" => return Err(Error::UserSuspended),
        "ERASED" => return Err(ERASED),
        outcome => return Err(Error::internal(format!("opening a session answered {outcome}"))),
    }
    let organization: Option<Uuid> = get(row, "organization_id")?;
    let role: Option<String> = get(row, "role")?;
    let suspension: Option<&str> = get(row, "suspension")?;
    Ok(match (organization, role) {
        (Some(organization), Some(role)) => Some(Tenant {
            organization_id: OrganizationId(organization),
            role: OrgRole::try_from_value(&role)?,
            suspension: suspension.map(Suspension::from_name).transpose()?,
        }),
        _ => None,
    })
}

/// Its row.
fn organization(row: &Row) -> Result<Option<organization::Model>> {
    let Some(id) = get(row, "organization_id")? else {
        return Ok(None);
    };
    Ok(Some(organization::Model {
        id: OrganizationId(id),
        name: get(row, "organization_name")?,
        slug: get(row, "organization_slug")?,
        created_at: get(row, "organization_created_at")?,
        updated_at: get(row, "organization_updated_at")?,
    }))
}

/// What is remembered of an opening.
#[derive(Debug)]
pub(super) struct CachedContext {
    pub(super) entry: SessionContext,
    pub(super) placement: Placement,
}

impl CachedContext {
    /// The database says the same again.
    pub(super) fn is_so(&self, row: &Row) -> bool {
        let is_there = || matches!(elsewhere(row, &self.placement), Ok(None));
        SessionContext::read(row).is_ok_and(|entry| entry == self.entry)
            && (self.placement.schema().is_none() || is_there())
    }
}

/// Openings, by what was asked. By its hash alone: whatever else has the same one, the database
/// says otherwise.
#[derive(Debug)]
pub(super) struct SessionCache {
    hasher: RandomState,
    known: Mutex<LruCache<u64, Arc<CachedContext>>>,
}

impl SessionCache {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), known: Mutex::new(LruCache::new(KNOWN)) }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<u64, Arc<CachedContext>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, session_request: &SessionRequest) -> Option<Arc<CachedContext>> {
        self.lock().get(&self.hasher.hash_one(session_request)).cloned()
    }

    pub(super) fn insert(&self, session_request: &SessionRequest, cached: CachedContext) {
        self.lock().put(self.hasher.hash_one(session_request), Arc::new(cached));
    }

    pub(super) fn remove(&self, session_request: &SessionRequest) {
        self.lock().pop(&self.hasher.hash_one(session_request));
    }
}
