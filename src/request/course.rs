//! What is known of a request on its way, also where an attempt at it was dropped.

use std::sync::{
    Once, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use entity::{OrganizationId, UserId};
use tracing::{Span, field::display};

use crate::rate_limit::RateLimit;

/// One for a request, however often it is tried.
#[derive(Debug)]
pub(super) struct Course {
    /// A request is counted once.
    pub(super) counted: OnceLock<Option<RateLimit>>,
    /// Whose it is has yet to be confirmed.
    is_in_doubt: AtomicBool,
    user: OnceLock<UserId>,
    organization: OnceLock<OrganizationId>,
    described: Once,
}

impl Course {
    pub(super) fn new() -> Self {
        Self {
            counted: OnceLock::new(),
            is_in_doubt: AtomicBool::new(false),
            user: OnceLock::new(),
            organization: OnceLock::new(),
            described: Once::new(),
        }
    }

    /// While it is not known whose the request is, nothing is told of their organization.
    pub(super) fn doubt(&self, is_in_doubt: bool) {
        self.is_in_doubt.store(is_in_doubt, Ordering::Relaxed);
    }

    /// How far the organization's calls go, for those who may know.
    pub(super) fn rate_limit(&self) -> Option<RateLimit> {
        let counted = self.counted.get().copied().flatten();
        counted.filter(|_| !self.is_in_doubt.load(Ordering::Relaxed))
    }

    /// The first attempt is the one to tell of.
    pub(super) fn of_user(&self, user: UserId) {
        let _ = self.user.set(user);
    }

    /// As above.
    pub(super) fn in_organization(&self, organization: OrganizationId) {
        let _ = self.organization.set(organization);
    }

    /// Tells the request's span whose it is. Only where somebody will read it: each field that is added costs as much as a statement's
    /// share of the processor.
    pub(super) fn describe(&self) {
        self.described.call_once(|| {
            let span = Span::current();
            if let Some(user) = self.user.get() {
                span.record("user", display(user.0));
            }
            if let Some(organization) = self.organization.get() {
                span.record("organization", display(organization.0));
            }
        });
    }
}
