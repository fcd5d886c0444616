//! How a session was opened, and its transaction.

use entity::InvitationId;
use pg::Row;
use sea_orm::Values;

use super::{
    Access, Databases, OpenFor, Tenant, Transaction,
    placement::Placement,
    remote::Remote,
    session_request::{SessionRequest, tenant},
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

impl Opening {
    /// Runs a statement in the control database, in a separate transaction as the same user and
    /// outside any organization. Its cost is charged to the session's budget.
    pub(super) async fn ask_control(
        &self,
        session: &Transaction,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        let session_request = self.session_request.outside();
        let control = self.databases.control();
        let system = self.databases.system();
        let placement = Placement::Shared.name();
        let (transaction, row) =
            session_request.open(control, system, access, None, &placement).await?;
        tenant(&row)?;
        session.share_budget(&transaction);
        let answer = transaction.query(sql, values).await;
        session.charge(&transaction)?;
        let answer = answer?;
        match access {
            Access::Read => transaction.release(),
            Access::Write => transaction.commit().await?,
        }
        Ok(answer.rows)
    }
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
