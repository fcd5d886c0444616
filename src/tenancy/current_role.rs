//! The caller's role in the session's organization. It is the one part of a tenant that an
//! operation may change: by joining, by leaving, and by waiting for a lock behind which it was
//! changed.

use std::sync::atomic::{AtomicUsize, Ordering};

use entity::OrgRole;

/// A role, or none after the caller has left the organization: an index into [`ROLES`], or its
/// length.
#[derive(Debug)]
pub(super) struct CurrentRole(AtomicUsize);

const ROLES: [OrgRole; 4] = [OrgRole::Viewer, OrgRole::Member, OrgRole::Admin, OrgRole::Owner];

impl CurrentRole {
    pub(super) fn new(role: Option<OrgRole>) -> Self {
        let current = Self(AtomicUsize::new(ROLES.len()));
        current.set(role);
        current
    }

    pub(super) fn get(&self) -> Option<OrgRole> {
        ROLES.get(self.0.load(Ordering::Relaxed)).copied()
    }

    pub(super) fn set(&self, role: Option<OrgRole>) {
        let index = ROLES.iter().position(|known| Some(*known) == role);
        self.0.store(index.unwrap_or(ROLES.len()), Ordering::Relaxed);
    }
}
