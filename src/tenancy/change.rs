//! The changes of a transaction, for subscribers. A change carries ids only, because each
//! subscriber reads what its own role may see.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use entity::{AuditLogId, MemberId, OrganizationId, ProjectId, UserId};
use serde::{Deserialize, Serialize};

/// A change in an organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A project was created, updated or deleted.
    Project(ProjectId),
    /// A member was added, changed or removed.
    Member(MemberId),
    /// An audit log entry was added; carries its key.
    AuditLog(DateTime<Utc>, AuditLogId),
    /// The plan's limits, or their use, have changed.
    Entitlements,
    /// The permissions of this user have changed; without an id, those of all members.
    Access(Option<UserId>),
}

/// The changes of one transaction, published after its commit.
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
