//! The changes of a transaction, for subscribers. A change carries ids only, because each
//! subscriber reads what its own role may see.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use entity::{OrganizationId, UserId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The topic of changes to the permissions of users.
const ACCESS: &str = "access";

/// A change in an organization. Each area names the topics of its changes. A server ignores topics
/// that it does not know, so servers of several versions can run at once.
///
/// Names are short, because a notification of PostgreSQL carries many changes in 8000 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The kind of the change, for example `project`.
    pub topic: Cow<'static, str>,
    /// The row that has changed. `None` if the change concerns the whole organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The time of the row, if it is part of the row's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
}

impl Change {
    /// A change that concerns the whole organization.
    #[must_use]
    pub fn new(topic: &'static str) -> Self {
        Self { topic: Cow::Borrowed(topic), id: None, at: None }
    }

    /// A change of one row.
    #[must_use]
    pub fn of(topic: &'static str, id: Uuid) -> Self {
        Self { id: Some(id), ..Self::new(topic) }
    }

    /// The permissions of this user have changed; without an id, those of all members.
    #[must_use]
    pub fn access(user: Option<UserId>) -> Self {
        Self { id: user.map(|user| user.0), ..Self::new(ACCESS) }
    }

    /// Whether the permissions of the user may have changed.
    #[must_use]
    pub fn is_access_of(&self, user: UserId) -> bool {
        self.topic == ACCESS && self.id.is_none_or(|id| id == user.0)
    }

    /// The id of the row.
    ///
    /// # Errors
    ///
    /// When the change is not about one row.
    pub fn row<T: From<Uuid>>(&self) -> Result<T> {
        let id = self.id.ok_or_else(|| Error::internal("the change names no row"))?;
        Ok(T::from(id))
    }
}

/// The changes of one transaction, published after its commit.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<(OrganizationId, Change)>>);

impl Changes {
    pub fn note(&self, organization: OrganizationId, change: Change) {
        self.0.lock().push((organization, change));
    }

    pub fn take(&self) -> Vec<(OrganizationId, Change)> {
        std::mem::take(&mut *self.0.lock())
    }
}
