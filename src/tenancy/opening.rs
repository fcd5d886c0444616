//! How a session was opened, and its transaction.

use entity::InvitationId;

use super::{
    Databases, OpenFor, Tenant, Transaction, dedicated::Remote, placement::Placement,
    session_request::SessionRequest,
};
use crate::error::{Error, Result};

/// How a session was opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) databases: Databases,
    pub(super) open_for: OpenFor,
    pub(super) session_request: SessionRequest,
    pub(super) placement: Placement,
}

/// A transaction, and the organization that its settings name.
pub(super) struct Place {
    pub(super) transaction: Transaction,
    pub(super) remote: Option<Remote>,
    pub(super) tenant: Option<Tenant>,
    pub(super) invitation: Result<InvitationId>,
}

/// The error for operations that need an invitation.
pub(super) const NOT_INVITED: Error = Error::NotFound("invitation");

impl Place {
    /// In the organization that the request names.
    pub(super) fn requested(
        transaction: Transaction,
        remote: Option<Remote>,
        tenant: Option<Tenant>,
    ) -> Self {
        Self { transaction, remote, tenant, invitation: Err(NOT_INVITED) }
    }
}
