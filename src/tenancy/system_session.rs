//! Background work without a user: webhooks, e-mail, metering, exports. It uses a small separate
//! pool, and never starts from a request's token. Each session names a reason, which the audit log
//! shows in place of a user.

use super::{
    Access, Change, Databases, Settings, Transaction,
    change_feed::Changes,
    dedicated::{Remote, commit},
    enter::{begin_system, enter},
    unit_of_work::{Actor, UnitOfWork, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};
use chrono::{DateTime, Utc};
use entity::OrganizationId;

/// The reason for background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An event from Stripe is applied.
    Stripe,
    /// API calls are counted.
    Metering,
    /// E-mail is sent.
    Mail,
    /// The operator exports the audit log.
    AuditExport,
    /// The operator replays an event from Stripe.
    BillingReplay,
    /// Partitions are created ahead of time.
    Maintenance,
    /// The quantity of a subscription is set to the size of the team.
    Seats,
}

impl Reason {
    /// The name in the audit log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripe => "Stripe",
            Self::Metering => "metering",
            Self::Mail => "mail",
            Self::AuditExport => "tenantry audit export",
            Self::BillingReplay => "tenantry billing replay",
            Self::Maintenance => "maintenance",
            Self::Seats => "seats",
        }
    }
}

/// A transaction of background work, inside one organization or none.
#[derive(Debug)]
pub struct SystemSession {
    transaction: Transaction,
    remote: Option<Remote>,
    organization: Option<OrganizationId>,
    reason: Reason,
    now: DateTime<Utc>,
    settings: Settings,
    changes: Changes,
    databases: Databases,
}

/// Opens a session of background work. Without an organization it can only call functions.
///
/// # Errors
///
/// When the database cannot be reached.
pub async fn open_system(
    databases: &Databases,
    settings: &Settings,
    organization: Option<OrganizationId>,
    reason: Reason,
    access: Access,
) -> Result<SystemSession> {
    let begun = begin_system(databases, access, organization).await?;
    Ok(SystemSession::new(databases, settings, begun, organization, reason))
}

/// Runs `work` in each database outside any organization: first in the control database, then in
/// the dedicated ones. Returns one result per database, and an error for one that is unreachable.
pub async fn in_every_database<T>(
    databases: &Databases,
    settings: &Settings,
    reason: Reason,
    access: Access,
    work: impl AsyncFn(SystemSession) -> Result<T>,
) -> Vec<Result<T>> {
    let session = |begun| SystemSession::new(databases, settings, begun, None, reason);
    let mut done = vec![match begin_system(databases, access, None).await {
        Ok(begun) => work(session(begun)).await,
        Err(error) => Err(error),
    }];
    if let Some(dedicated) = databases.dedicated_databases() {
        for name in dedicated.names() {
            done.push(match dedicated.begin_outside(access, name).await {
                Ok((transaction, remote)) => work(session((transaction, Some(remote)))).await,
                Err(error) => Err(error),
            });
        }
    }
    done
}

impl SystemSession {
    fn new(
        databases: &Databases,
        settings: &Settings,
        (transaction, remote): (Transaction, Option<Remote>),
        organization: Option<OrganizationId>,
        reason: Reason,
    ) -> Self {
        Self {
            transaction,
            remote,
            organization,
            reason,
            now: settings.clock.now(),
            settings: settings.clone(),
            changes: Changes::default(),
            databases: databases.clone(),
        }
    }

    /// Continues in an organization that was found in this transaction: in the same transaction, or
    /// in a new one if the organization lives in a dedicated database.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn enter(mut self, organization: OrganizationId) -> Result<Self> {
        let remote = enter(&self.databases, &mut self.transaction, organization).await?;
        self.organization = Some(organization);
        if let Some(there) = remote {
            (self.transaction, self.remote) = Remote::after(self.transaction, there);
        }
        Ok(self)
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The transaction in which the work began, before [`enter`](Self::enter). It is committed
    /// after the present one.
    pub fn begun(&self) -> &Transaction {
        self.remote.as_ref().and_then(Remote::begun).unwrap_or(&self.transaction)
    }

    /// Commits, and publishes the changes to subscribers.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = commit(&self.transaction, self.remote.as_ref()).await;
        // As in the session of a user.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            self.databases.change_feed().publish(self.changes.take());
        }
        committed
    }
}

connection_of_transaction!(SystemSession);

impl UnitOfWork for SystemSession {
    fn require(&self, _: Permission) -> Result<OrganizationId> {
        self.organization_id()
    }

    fn organization_id(&self) -> Result<OrganizationId> {
        self.organization.ok_or(Error::OrganizationRequired)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note(&self, change: Change) {
        if let Some(organization) = self.organization {
            self.changes.note(organization, change);
        }
    }

    fn actor(&self) -> Actor<'_> {
        Actor::System(self.reason.name())
    }
}
