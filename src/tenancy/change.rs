//! What a transaction changed, for those who watch: ids alone, because each of them reads for
//! themselves what they may see.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use entity::{AuditLogId, MemberId, OrganizationId, ProjectId, UserId};
use serde::{Deserialize, Serialize};

/// Something in an organization that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A project was created, changed or deleted.
    Project(ProjectId),
    /// A member joined, changed or went.
    Member(MemberId),
    /// An entry was added to the audit log; its key.
    AuditLog(DateTime<Utc>, AuditLogId),
    /// What the plan allows, or how much of it is used.
    Entitlements,
    /// What this person may do here; of everybody, without one.
    Access(Option<UserId>),
}

/// The changes of one transaction, to be told once it has committed.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<Vec<(OrganizationId, Change)>>);

impl Changes {
    pub(super) fn note(&self, organization: OrganizationId, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((organization, change));
    }

    pub(super) fn take(&self) -> Vec<(OrganizationId, Change)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
