//! Work without a person: webhooks, mail, metering, exports. On a small pool of its own, and never made from a request's
//! token: whoever opens one names the reason, which the audit log shows in place of a person.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Access, Change, Environment, Notices, Placement, Rules, Transaction,
    change::Changes,
    driver::Parameters,
    home::{ENTER, arrive, enter, entering},
    scope::{Actor, Scope, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};
use chrono::{DateTime, Utc};
use entity::OrganizationId;

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
    organization: Mutex<Option<OrganizationId>>,
    reason: Reason,
    now: DateTime<Utc>,
    rules: Arc<Rules>,
    changes: Changes,
    notices: Notices,
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
    // Also without one: nothing of another transaction may hold here.
    let parameters = Parameters::of(Some(entering(organization, None)))?;
    let (transaction, rows) =
        Transaction::begin(placement.system(), access, None, ENTER, &parameters).await?;
    arrive(&transaction, &rows, organization).await?;
    Ok(SystemSession {
        transaction,
        organization: Mutex::new(organization),
        reason,
        now: environment.clock.now(),
        rules: Arc::clone(&environment.rules),
        changes: Changes::default(),
        notices: placement.notices().clone(),
    })
}

impl SystemSession {
    /// Goes on inside an organization, which was found in this transaction.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn enter(&self, organization: OrganizationId) -> Result<()> {
        enter(&self.transaction, organization, None).await?;
        *self.organization.lock().unwrap_or_else(PoisonError::into_inner) = Some(organization);
        Ok(())
    }

    /// Keeps what was done, and tells those who watch.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = self.transaction.commit().await;
        // As in a person's session.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            self.notices.publish(self.changes.take());
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

    fn actor(&self) -> Actor<'_> {
        Actor::System(self.reason.name())
    }
}
