//! The session cache: the context that PostgreSQL resolved for each caller's last session.
//! Admission counts a request for the cached organization, routing begins at the cached placement,
//! and a query may start from the cached context. PostgreSQL verifies all of it in the request's
//! transaction, so an outdated context only costs time.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use entity::OrganizationId;
use lru::LruCache;
use parking_lot::Mutex;
use pg::Row;

use super::{
    Destination,
    placement::Placement,
    session_request::{SessionContext, elsewhere},
};
use crate::auth::Caller;

/// The context of a caller's last session.
#[derive(Debug)]
pub struct CachedContext {
    pub(super) context: SessionContext,
    pub(super) placement: Placement,
    /// The version with which the same token may reopen the session, instead of a full opening.
    version: Option<Box<str>>,
    /// A hash of the address in the token, on which the context depends.
    email: u64,
    /// A hash of everything in the request that the opening evaluated: the cache's key, and what
    /// the token says about the user.
    request: u64,
}

impl CachedContext {
    /// The organization, if the request was in one.
    #[must_use]
    pub fn organization_id(&self) -> Option<OrganizationId> {
        self.context.tenant.map(|tenant| tenant.organization_id)
    }

    /// When the organization's billing had last changed.
    #[must_use]
    pub fn billing_version(&self) -> Option<DateTime<Utc>> {
        self.context.billing_version
    }

    /// The context that the database returned instead, at the same placement.
    pub(super) fn successor(&self, row: &Row) -> Option<SessionContext> {
        let is_there = matches!(elsewhere(row, &self.placement), Ok(None));
        SessionContext::read(row).ok().filter(|_| is_there)
    }

    /// Whether the database returned the same context and placement again.
    pub(super) fn is_confirmed_by(&self, row: &Row) -> bool {
        let is_there = || matches!(elsewhere(row, &self.placement), Ok(None));
        SessionContext::read(row).is_ok_and(|context| context == self.context)
            && (self.placement.search_path().is_none() || is_there())
    }
}

/// The cache. Its key is a hash of the caller's identity, the path and the claim. The token's time
/// is no part of it, so a caller's next token finds the context. Collisions are harmless, like any
/// outdated context.
#[derive(Debug)]
pub(super) struct SessionCache {
    hasher: RandomState,
    contexts: Mutex<LruCache<u64, Arc<CachedContext>>>,
}

impl SessionCache {
    /// An empty cache of at most `size` contexts.
    pub(super) fn new(size: NonZeroUsize) -> Self {
        Self { hasher: RandomState::new(), contexts: Mutex::new(LruCache::new(size)) }
    }

    fn key(&self, caller: &Caller, destination: &Destination) -> u64 {
        let Caller { issuer, subject, organization, .. } = caller;
        self.hasher.hash_one((issuer, subject, organization, &destination.slug))
    }

    pub(super) fn get(
        &self,
        caller: &Caller,
        destination: &Destination,
    ) -> Option<Arc<CachedContext>> {
        let key = self.key(caller, destination);
        self.contexts.lock().get(&key).cloned()
    }

    /// Whether the context was found with the same address in the token.
    pub(super) fn is_of_token(&self, cached: &CachedContext, caller: &Caller) -> bool {
        cached.email == self.hasher.hash_one(&caller.email)
    }

    /// The version with which this request may reopen the session. PostgreSQL then compares nothing
    /// but the version, so a collision of the key must not lead here.
    pub(super) fn version<'cached>(
        &self,
        cached: &'cached CachedContext,
        caller: &Caller,
        destination: &Destination,
    ) -> Option<&'cached str> {
        let is_same = cached.request == self.request(caller, destination);
        cached.version.as_deref().filter(|_| is_same)
    }

    fn request(&self, caller: &Caller, destination: &Destination) -> u64 {
        let Caller { issuer, subject, organization, email, issued_at, name, picture, .. } = caller;
        let token = (issuer, subject, organization, email, issued_at, name, picture);
        self.hasher.hash_one((token, &destination.slug))
    }

    pub(super) fn insert(
        &self,
        caller: &Caller,
        destination: &Destination,
        context: &SessionContext,
        placement: &Placement,
        version: Option<Box<str>>,
    ) {
        let key = self.key(caller, destination);
        let (context, placement) = (context.clone(), placement.clone());
        let email = self.hasher.hash_one(&caller.email);
        let request = self.request(caller, destination);
        let cached = CachedContext { context, placement, version, email, request };
        self.contexts.lock().put(key, Arc::new(cached));
    }

    pub(super) fn remove(&self, caller: &Caller, destination: &Destination) {
        let key = self.key(caller, destination);
        self.contexts.lock().pop(&key);
    }
}
