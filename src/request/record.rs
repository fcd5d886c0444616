//! The facts about a request besides its response, for its span, its metrics and its retries. The
//! record outlives the executions, so it can be read after one was cancelled or has panicked.

use std::sync::Arc;

use entity::{OrganizationId, UserId};
use tracing::{Span, field::display};

use crate::{
    rate_limit::RateLimit,
    tenancy::{Cost, Session},
};

/// The record of one request, lent to each of its executions.
#[derive(Debug, Default)]
pub(super) struct RequestRecord {
    /// Whether the request was counted, which happens once.
    is_counted: bool,
    /// The state of the call limit after that, if there is one.
    rate_limit: Option<RateLimit>,
    user: Option<UserId>,
    organization: Option<OrganizationId>,
    cost: Cost,
    running: Option<Running>,
    is_described: bool,
}

/// The session of an execution.
#[derive(Debug)]
struct Running {
    session: Arc<Session>,
    at_replica: bool,
}

/// How an execution has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// Whether its session was at the replica.
    pub(super) at_replica: bool,
    /// Whether at least a part of its work was committed.
    pub(super) has_committed: bool,
}

impl RequestRecord {
    /// Begins an execution in this session.
    pub(super) fn begin(&mut self, session: &Arc<Session>, at_replica: bool) {
        self.running = Some(Running { session: Arc::clone(session), at_replica });
    }

    /// The session of the present execution.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.running.as_ref().map(|running| Arc::clone(&running.session))
    }

    /// Whether the present execution is at the replica.
    pub(super) fn is_at_replica(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.at_replica)
    }

    /// Ends an execution, with any outcome: counts its cost, and drops its session. A transaction
    /// that is still open is rolled back.
    pub(super) fn end(&mut self) -> Ended {
        let Some(Running { session, at_replica }) = self.running.take() else {
            return Ended::default();
        };
        self.cost = self.cost.plus(session.transaction().cost());
        Ended { at_replica, has_committed: session.transaction().has_committed() }
    }

    /// Records the user and the organization after the database confirmed them. The first execution
    /// wins.
    pub(super) fn is_of(&mut self, user: UserId, organization: Option<OrganizationId>) {
        self.user.get_or_insert(user);
        self.organization = self.organization.or(organization);
    }

    /// Whether the request was counted.
    pub(super) fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// Records that the request was counted.
    pub(super) fn count(&mut self, rate_limit: Option<RateLimit>) {
        self.is_counted = true;
        self.rate_limit = rate_limit;
    }

    /// The state of the call limit after the request was counted, if there is one.
    pub(super) fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// The cost of all executions that have ended.
    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Adds the user and the organization to the request's span. Call it only if the span is read:
    /// each added field costs as much CPU time as a statement.
    pub(super) fn describe(&mut self) {
        if std::mem::replace(&mut self.is_described, true) {
            return;
        }
        let span = Span::current();
        if let Some(user) = self.user {
            span.record("user", display(user.0));
        }
        if let Some(organization) = self.organization {
            span.record("organization", display(organization.0));
        }
    }
}
