//! What is known of a request on its way, also where an attempt at it was dropped.

use std::sync::{Once, OnceLock};

use entity::{OrganizationId, UserId};
use tracing::{Span, field::display};

use crate::rate_limit::RateLimit;

/// One for a request, however often it is tried.
#[derive(Debug)]
pub(super) struct RequestTrace {
    /// A request is counted once.
    pub(super) counted: OnceLock<Option<RateLimit>>,
    user: OnceLock<UserId>,
    organization: OnceLock<OrganizationId>,
    described: Once,
}

impl RequestTrace {
    pub(super) fn new() -> Self {
        Self {
            counted: OnceLock::new(),
            user: OnceLock::new(),
            organization: OnceLock::new(),
            described: Once::new(),
        }
    }

    /// Whose it is, once the database has said so. The first attempt is the one to tell of.
    pub(super) fn is_of(&self, user: UserId, organization: Option<OrganizationId>) {
        let _ = self.user.set(user);
        if let Some(organization) = organization {
            let _ = self.organization.set(organization);
        }
    }

    /// Tells the request's span whose it is. Only where somebody will read it: each field that is
    /// added costs as much as a statement's share of the processor.
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
