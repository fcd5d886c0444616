//! Background work without a user: webhooks, e-mail, metering, exports. It uses a small separate
//! pool, and never starts from a request's token. Each session names a reason, which the audit log
//! shows in place of a user.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Access, Change, Databases, Settings, Transaction,
    change::Changes,
    dedicated::DedicatedDatabase,
    enter_organization::{begin_in, begin_system, enter},
    remote::Remote,
    unit_of_work::{Actor, UnitOfWork, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};
use chrono::{DateTime, Utc};
use entity::OrganizationId;
use sea_orm::{ConnectionTrait, Statement};

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
        }
    }
}

/// A transaction of background work, inside one organization or none.
#[derive(Debug)]
pub struct SystemSession {
    transaction: Transaction,
    remote: Remote,
    organization: Mutex<Option<OrganizationId>>,
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
            remote: Remote::new(database),
            organization: Mutex::new(organization),
            reason,
            now: settings.clock.now(),
            settings: settings.clone(),
            changes: Changes::default(),
            databases: databases.clone(),
        }
    }

    /// Enters an organization that was found in this transaction.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn enter(&self, organization: OrganizationId) -> Result<()> {
        let remote_entry = enter(&self.databases, &self.transaction, organization).await?;
        if let Some(remote_entry) = remote_entry {
            self.remote.go(&self.transaction, remote_entry);
        }
        *self.organization.lock().unwrap_or_else(PoisonError::into_inner) = Some(organization);
        Ok(())
    }

    /// Runs a statement in the transaction in which the session began, even after it has moved to a
    /// dedicated database.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn execute_where_begun(&self, statement: Statement) -> Result<()> {
        match self.remote.begun() {
            Some(begun) => begun.execute_raw(statement).await?,
            None => self.execute_raw(statement).await?,
        };
        Ok(())
    }

    /// Commits, and publishes the changes to subscribers.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = self.remote.commit(&self.databases, &self.transaction).await;
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
        let organization = *self.organization.lock().unwrap_or_else(PoisonError::into_inner);
        organization.ok_or(Error::OrganizationRequired)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note(&self, change: Change) {
        let organization = *self.organization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(organization) = organization {
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
