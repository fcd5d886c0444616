//! Data for the span and the response that is kept for the whole request, even if an execution is
//! cancelled.

use std::sync::{Mutex, Once, OnceLock, PoisonError};

use entity::{OrganizationId, UserId};
use tracing::{Span, field::display};

use crate::{rate_limit::RateLimit, tenancy::Cost};

/// One per request, shared by all its executions.
#[derive(Debug)]
pub(super) struct RequestTrace {
    /// The result of counting the call; set once, because a request counts once.
    pub(super) counted: OnceLock<Option<RateLimit>>,
    user: OnceLock<UserId>,
    organization: OnceLock<OrganizationId>,
    spent: Mutex<Cost>,
    described: Once,
}

impl RequestTrace {
    pub(super) fn new() -> Self {
        Self {
            counted: OnceLock::new(),
            user: OnceLock::new(),
            organization: OnceLock::new(),
            spent: Mutex::default(),
            described: Once::new(),
        }
    }

    /// Records the user and the organization after the database confirmed them. The first execution
    /// wins.
    pub(super) fn is_of(&self, user: UserId, organization: Option<OrganizationId>) {
        let _ = self.user.set(user);
        if let Some(organization) = organization {
            let _ = self.organization.set(organization);
        }
    }

    /// Counts what a session has cost, with any outcome.
    pub(super) fn spend(&self, cost: Cost) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = spent.plus(cost);
    }

    /// What all of its sessions have cost.
    pub(super) fn spent(&self) -> Cost {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the user and the organization to the request's span. Call it only if the span is read:
    /// each added field costs as much CPU time as a statement.
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
