//! The session: caller, organization and transaction. Every operation takes it as its first
//! parameter. It stays in the organization in which it was opened, and its settings match what
//! PostgreSQL resolved in this transaction.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::{InvitationId, OrgRole, OrganizationId, organization};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::{
    Access, Change, OpenFor, Settings, Tenant, Transaction, Viewer,
    change_feed::Changes,
    current_role::CurrentRole,
    dedicated::{Remote, commit},
    destination::Search,
    opening::{Opening, Place},
    placement_routing::begin,
    session_request::tenant,
    unit_of_work::{Actor, UnitOfWork, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
    sql::sql,
};

/// The access of one request to the database.
#[derive(Debug)]
pub struct Session {
    transaction: Transaction,
    remote: Option<Remote>,
    viewer: Viewer,
    /// The organization, with the role at the opening.
    tenant: Option<Tenant>,
    /// The present role in it, which the operation itself may change.
    role: CurrentRole,
    organization: Option<organization::Model>,
    invitation: Result<InvitationId>,
    now: DateTime<Utc>,
    settings: Settings,
    opening: Opening,
    /// Published after the commit.
    changes: Changes,
}

impl Session {
    pub(super) fn new(
        place: Place,
        viewer: Viewer,
        organization: Option<organization::Model>,
        settings: &Settings,
        opening: Opening,
    ) -> Arc<Self> {
        let Place { transaction, remote, tenant, invitation } = place;
        // Until the operation has entered it, the organization of an invitation shows nothing.
        let role = tenant.map(|tenant| tenant.role).filter(|_| invitation.is_err());
        Arc::new(Self {
            transaction,
            remote,
            viewer,
            tenant,
            role: CurrentRole::new(role),
            organization,
            invitation,
            now: settings.clock.now(),
            settings: settings.clone(),
            opening,
            changes: Changes::default(),
        })
    }

    /// The user who sent the request.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The organization without a permission check, for finding out where the request is.
    /// Operations use [`authorize`](Self::authorize).
    pub fn tenant(&self) -> Option<Tenant> {
        let role = self.role.get()?;
        Some(Tenant { role, ..self.tenant? })
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The transaction in which the request began. It differs from
    /// [`transaction`](Self::transaction) if the request was opened in the control database and
    /// continues in a dedicated one. It is committed after that one.
    pub fn begun(&self) -> &Transaction {
        self.remote.as_ref().and_then(Remote::begun).unwrap_or(&self.transaction)
    }

    /// The organization's row, which only the opening of a query reads.
    pub fn organization_row(&self) -> Option<&organization::Model> {
        self.organization.as_ref()
    }

    /// The invitation to whose organization the session was opened, with
    /// [`OpenFor::Invitation`].
    ///
    /// # Errors
    ///
    /// When there is no such invitation, or its organization is suspended.
    pub fn invitation(&self) -> Result<InvitationId> {
        self.invitation.clone()
    }

    /// Enters the organization of the invitation with the rights of a viewer, until the caller has
    /// joined it or left again.
    pub fn enter_invited(&self) {
        if self.invitation.is_ok() {
            self.role.set(Some(OrgRole::Viewer));
        }
    }

    /// Whether the operation makes several changes.
    pub fn makes_several_changes(&self) -> bool {
        matches!(self.opening.open_for, OpenFor::Mutation { makes_several_changes: true })
    }

    /// Commits, and publishes the changes to subscribers.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let Opening { databases, open_for, .. } = &self.opening;
        let committed = commit(&self.transaction, self.remote.as_ref()).await;
        // Subscribers read the changes themselves, so publishing one that did not happen is
        // harmless.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            databases.change_feed().publish(self.changes.take());
            if matches!(open_for, OpenFor::User) {
                databases.user_changed();
            }
        }
        committed
    }

    /// The identity in the request's token: issuer and subject.
    pub fn identity(&self) -> (&str, &str) {
        self.opening.session_request.identity()
    }

    /// The organization, if the user's role includes `permission` and no suspension withdraws it.
    ///
    /// # Errors
    ///
    /// When there is no organization, the permission is missing, or the organization is suspended.
    pub fn authorize(&self, permission: Permission) -> Result<Tenant> {
        let tenant = self.tenant().ok_or(Error::OrganizationRequired)?;
        if !permission.granted_to(tenant.role) {
            return Err(Error::Forbidden(permission));
        }
        let access = self.opening.open_for.access();
        match tenant.suspension {
            Some(suspension) if !suspension.leaves(permission, access) => {
                Err(Error::OrganizationSuspended)
            }
            _ => Ok(tenant),
        }
    }

    /// Continues with the role that the caller has just received in the organization.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn assume_role(&self, role: OrgRole) -> Result<()> {
        self.execute_unprepared("SELECT auth.refresh_role()").await?;
        self.role.set(Some(role));
        Ok(())
    }

    /// Reads the user's role again, which may have changed while the request waited for a lock.
    ///
    /// # Errors
    ///
    /// When the user is no longer a member.
    pub async fn refresh_role(&self) -> Result<()> {
        let organization_id = self.organization_id()?;
        let role = sql(
            "SELECT role::text FROM organization_members WHERE organization_id = $1 AND user_id = $2",
            [organization_id.into(), self.viewer.user_id.into()],
        );
        let row = self.query_one_raw(role).await?.ok_or(Error::OrganizationNotFound)?;
        self.role.set(Some(row.try_get("", "role")?));
        Ok(())
    }

    /// Leaves the organization after the membership was deleted. Fields of the same response may
    /// still show what was read before.
    pub fn leave(&self) {
        self.role.set(None);
    }

    /// Commits, runs `work` without an open transaction, and continues in a new transaction of the
    /// same user and organization. Use it for calls to other services, during which a request must
    /// hold neither a connection nor a lock.
    ///
    /// # Errors
    ///
    /// When the commit failed (then `work` has not run), or when the user has lost access or the
    /// organization has moved meanwhile.
    pub async fn outside<T>(&self, work: impl Future<Output = T> + Send) -> Result<T> {
        commit(&self.transaction, self.remote.as_ref()).await?;
        let outcome = work.await;
        // The effects of `work` cannot be undone.
        Box::pin(self.resume()).await.map_err(Error::after_the_fact)?;
        Ok(outcome)
    }

    /// Begins a new transaction at the same placement.
    async fn resume(&self) -> Result<()> {
        let Opening { databases, open_for, session_request, placement } = &self.opening;
        let request = session_request.unrecorded();
        let access = open_for.access();
        let begun =
            begin(databases, access, &request, placement.clone(), Search::Everywhere).await?;
        let now = tenant(&begun.row)?.ok_or(Error::OrganizationNotFound)?;
        if self.tenant.map(|tenant| tenant.organization_id) != Some(now.organization_id) {
            return Err(Error::OrganizationNotFound);
        }
        if begun.placement != *placement {
            return Err(Error::unavailable("the organization was moved during the request"));
        }
        self.transaction.resume(&begun.transaction);
        self.role.set(Some(now.role));
        Ok(())
    }

    /// Runs a statement in the control database, in a separate transaction whose commit does
    /// not depend on this one. Returns `None` if this session is in the control database; run the
    /// statement in it.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn ask_control(
        &self,
        access: Access,
        statement: &Statement,
    ) -> Result<Option<Vec<QueryResult>>> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let (request, transaction) = (&self.opening.session_request, &self.transaction);
        let (sql, values) = (&statement.sql, statement.values.clone());
        let asked = remote.ask_control(request, transaction, access, sql, values);
        let rows = Box::pin(asked).await?;
        let rows = rows.iter().map(pg::to_query_result);
        Ok(Some(rows.collect::<pg::Result<_>>()?))
    }

    /// Reads rows of the control database, in this transaction if the session is there.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn read_control(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        match self.ask_control(Access::Read, &statement).await? {
            Some(rows) => Ok(rows),
            None => Ok(self.query_all_raw(statement).await?),
        }
    }
}

connection_of_transaction!(Session);

impl UnitOfWork for Session {
    fn require(&self, permission: Permission) -> Result<OrganizationId> {
        Ok(self.authorize(permission)?.organization_id)
    }

    fn organization_id(&self) -> Result<OrganizationId> {
        Ok(self.tenant().ok_or(Error::OrganizationRequired)?.organization_id)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note(&self, change: Change) {
        if let Some(tenant) = self.tenant() {
            self.changes.note(tenant.organization_id, change);
        }
    }

    fn actor(&self) -> Actor<'_> {
        Actor::User(self.viewer.user_id, self.viewer.client_ip)
    }
}
