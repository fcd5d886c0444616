//! Background work without a user: webhooks, e-mail, metering, exports. It uses a small separate
//! pool, and never starts from a request's token. Each session names a reason, which the audit log
//! shows in place of a user.

use std::sync::Arc;

use super::{
    Access, Change, Databases, Settings, Transaction,
    change::Changes,
    dedicated::DedicatedDatabase,
    enter::{begin_in, begin_system, enter},
    remote::{Remote, commit},
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
    let (transaction, database) = begin_system(databases, access, organization).await?;
    Ok(SystemSession::new(databases, settings, transaction, database, organization, reason))
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
    let mut done = Vec::new();
    let opened = open_system(databases, settings, None, reason, access).await;
    done.push(match opened {
        Ok(session) => work(session).await,
        Err(error) => Err(error),
    });
    for database in databases.dedicated_databases().all() {
        done.push(match begin_in(databases, access, database).await {
            Ok(transaction) => {
                let database = Some(Arc::clone(database));
                let session =
                    SystemSession::new(databases, settings, transaction, database, None, reason);
                work(session).await
            }
            Err(error) => Err(error),
        });
    }
    done
}

impl SystemSession {
    fn new(
        databases: &Databases,
        settings: &Settings,
        transaction: Transaction,
        database: Option<Arc<DedicatedDatabase>>,
        organization: Option<OrganizationId>,
        reason: Reason,
    ) -> Self {
        Self {
            transaction,
            remote: Remote::of(database),
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
        let committed = commit(&self.databases, &self.transaction, self.remote.as_ref()).await;
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

    fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    fn actor(&self) -> Actor<'_> {
        Actor::System(self.reason.name())
    }
}
