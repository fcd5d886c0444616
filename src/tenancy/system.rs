//! Work without a person: webhooks, mail, metering, exports. On a small pool of its own, and never
//! made from a request's token: whoever opens one names the reason, which the audit log shows in
//! place of a person.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Access, Change, Environment, Placement, Rules, Transaction,
    abroad::Abroad,
    change::Changes,
    dedicated::Dedicated,
    entrance::{begin_in, begin_system, enter},
    scope::{Actor, Scope, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};
use chrono::{DateTime, Utc};
use entity::OrganizationId;
use sea_orm::{ConnectionTrait, Statement};

/// Why the system does something by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Stripe told us something.
    Stripe,
    /// Calls are counted.
    Metering,
    /// Mail is sent.
    Mail,
    /// The operator asked for an export of the audit log.
    AuditExport,
    /// The operator asked to go through an event of Stripe's again.
    BillingReplay,
    /// Partitions are kept ahead of time.
    Maintenance,
}

impl Reason {
    /// As the audit log names it.
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

/// One transaction of the system's own, inside one organization at the most.
#[derive(Debug)]
pub struct SystemSession {
    transaction: Transaction,
    abroad: Abroad,
    organization: Mutex<Option<OrganizationId>>,
    reason: Reason,
    now: DateTime<Utc>,
    rules: Arc<Rules>,
    changes: Changes,
    placement: Placement,
}

/// Opens a session of the system's; without an organization it can do no more than call functions.
///
/// # Errors
///
/// When the database cannot be reached.
pub async fn open_system(
    placement: &Placement,
    environment: &Environment,
    organization: Option<OrganizationId>,
    reason: Reason,
    access: Access,
) -> Result<SystemSession> {
    let (transaction, database) = begin_system(placement, access, organization).await?;
    Ok(SystemSession::new(placement, environment, transaction, database, organization, reason))
}

/// Does the same in each database, in no organization: first in the control database, then in those
/// of organizations' own. One that cannot be reached is an error of its own.
pub async fn in_every_database<T>(
    placement: &Placement,
    environment: &Environment,
    reason: Reason,
    access: Access,
    work: impl AsyncFn(SystemSession) -> Result<T>,
) -> Vec<Result<T>> {
    let mut done = Vec::new();
    let opened = open_system(placement, environment, None, reason, access).await;
    done.push(match opened {
        Ok(session) => work(session).await,
        Err(error) => Err(error),
    });
    for database in placement.databases().all() {
        done.push(match begin_in(placement, access, database).await {
            Ok(transaction) => {
                let database = Some(Arc::clone(database));
                let session =
                    SystemSession::new(placement, environment, transaction, database, None, reason);
                work(session).await
            }
            Err(error) => Err(error),
        });
    }
    done
}

impl SystemSession {
    fn new(
        placement: &Placement,
        environment: &Environment,
        transaction: Transaction,
        database: Option<Arc<Dedicated>>,
        organization: Option<OrganizationId>,
        reason: Reason,
    ) -> Self {
        Self {
            transaction,
            abroad: Abroad::new(database),
            organization: Mutex::new(organization),
            reason,
            now: environment.clock.now(),
            rules: Arc::clone(&environment.rules),
            changes: Changes::default(),
            placement: placement.clone(),
        }
    }

    /// Goes on inside an organization, which was found in this transaction.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn enter(&self, organization: OrganizationId) -> Result<()> {
        let onward = enter(&self.placement, &self.transaction, organization).await?;
        if let Some(onward) = onward {
            self.abroad.go(&self.transaction, onward);
        }
        *self.organization.lock().unwrap_or_else(PoisonError::into_inner) = Some(organization);
        Ok(())
    }

    /// Runs a statement where the session began: it may have gone on in another database since.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn execute_where_begun(&self, statement: Statement) -> Result<()> {
        match self.abroad.begun() {
            Some(begun) => begun.execute_raw(statement).await?,
            None => self.execute_raw(statement).await?,
        };
        Ok(())
    }

    /// Keeps what was done, and tells those who watch.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = self.abroad.commit(&self.placement, &self.transaction).await;
        // As in a person's session.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            self.placement.notices().publish(self.changes.take());
        }
        committed
    }
}

connection_of_transaction!(SystemSession);

impl Scope for SystemSession {
    fn organization(&self, _: Permission) -> Result<OrganizationId> {
        let organization = *self.organization.lock().unwrap_or_else(PoisonError::into_inner);
        organization.ok_or(Error::OrganizationRequired)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn rules(&self) -> &Rules {
        &self.rules
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
