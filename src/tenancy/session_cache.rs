//! The session cache: the context of each caller's last session. A query starts from it while
//! PostgreSQL checks it again, and its response is sent only after PostgreSQL has confirmed the
//! context.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId, organization};
use lru::LruCache;
use pg::Row;
use sea_orm::ActiveEnum;
use uuid::Uuid;

use super::{
    Suspension, Tenant, open::get, placement::Placement, placement_routing::elsewhere,
    session_request::SessionRequest,
};
use crate::error::{Error, Result};

/// The maximum number of cached contexts, of about 400 bytes each.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// The error for tokens issued before their user was erased.
pub(super) const ERASED: Error =
    Error::Unauthenticated("the token was issued before its user was erased");

/// The context that an opening resolved: user, organization and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionContext {
    pub(super) user_id: UserId,
    pub(super) tenant: Option<Tenant>,
    pub(super) organization: Option<organization::Model>,
    pub(super) billing_version: Option<DateTime<Utc>>,
    /// Whether no newer token of the identity has another address.
    pub(super) email_is_current: bool,
}

impl SessionContext {
    /// Reads the row of an opening.
    ///
    /// # Errors
    ///
    /// When the opening was refused.
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

/// The tenant in the row of an opening; `None` outside organizations.
pub(super) fn tenant(row: &Row) -> Result<Option<Tenant>> {
    match get(row, "outcome")? {
        "OK" => {}
        "MISMATCH" => return Err(Error::OrganizationMismatch),
        "NOT_FOUND" => return Err(Error::OrganizationNotFound),
        "ORGANIZATION_SUSPENDED" => return Err(Error::OrganizationSuspended),
        "USER_SUSPENDED" => return Err(Error::UserSuspended),
        "ERASED" => return Err(ERASED),
        outcome => return Err(Error::internal(format!("auth.open_request returned {outcome}"))),
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

/// The organization in the row of an opening.
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

/// A cached context, with the placement in which it was found.
#[derive(Debug)]
pub(super) struct CachedContext {
    pub(super) entry: SessionContext,
    pub(super) placement: Placement,
}

impl CachedContext {
    /// Whether the database returned the same context and placement again.
    pub(super) fn is_so(&self, row: &Row) -> bool {
        let is_there = || matches!(elsewhere(row, &self.placement), Ok(None));
        SessionContext::read(row).is_ok_and(|entry| entry == self.entry)
            && (self.placement.search_path().is_none() || is_there())
    }
}

/// The cache, keyed by a hash of the session request. Collisions are harmless, because the database
/// has to confirm each context.
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
