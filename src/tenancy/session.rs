//! The session: who calls, in which organization, in which transaction. The first parameter of
//! every operation.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use entity::{InvitationId, OrgRole, OrganizationId, UserId, organization};
use sea_orm::{ActiveEnum, ConnectionTrait, DbBackend, QueryResult, Statement};

use super::{
    Access, BusinessSettings, Change, Settings, Suspension, Transaction,
    change::Changes,
    driver::to_proxy_row,
    enter_organization::{Invited, enter_invited},
    open::Opening,
    remote::Remote,
    unit_of_work::{Actor, UnitOfWork, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};

/// The person of a request.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Their row in `auth.users`.
    pub user_id: UserId,
    /// The verified e-mail address that the request's token has, unless a newer token of the
    /// identity has another.
    pub verified_email: Option<String>,
    /// Where the request came from.
    pub client_ip: Option<IpAddr>,
}

/// The organization of a request, and what the person is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The organization that the transaction's settings name.
    pub organization_id: OrganizationId,
    /// The person's role, as read in this transaction.
    pub role: OrgRole,
    /// The operator has suspended the organization.
    pub suspension: Option<Suspension>,
}

/// One request's way to the database.
#[derive(Debug)]
pub struct Session {
    transaction: Transaction,
    remote: Remote,
    viewer: Viewer,
    tenant: Mutex<Option<Tenant>>,
    organization: Option<organization::Model>,
    entered: AtomicU32,
    now: DateTime<Utc>,
    business: Arc<BusinessSettings>,
    /// Large, and rarely needed.
    opening: Box<Opening>,
    changes: Changes,
    /// Something was committed before the end: see [`outside`](Self::outside).
    partly_committed: Arc<AtomicBool>,
}

impl Session {
    pub(super) fn new(
        transaction: Transaction,
        remote: Remote,
        viewer: Viewer,
        tenant: Option<Tenant>,
        organization: Option<organization::Model>,
        settings: &Settings,
        opening: Box<Opening>,
    ) -> Self {
        Self {
            transaction,
            remote,
            viewer,
            tenant: Mutex::new(tenant),
            organization,
            entered: AtomicU32::new(0),
            now: settings.clock.now(),
            business: Arc::clone(&settings.business),
            opening,
            changes: Changes::default(),
            partly_committed: Arc::default(),
        }
    }

    /// The person who calls.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The organization, whatever may be done in it: to know where the request is, not to act
    /// there.
    pub fn tenant(&self) -> Option<Tenant> {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction, for whoever ends it.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The request is in an organization.
    pub fn in_organization(&self) -> bool {
        self.tenant().is_some()
    }

    /// The organization's row, which came with the opening of a session that only reads.
    pub fn organization_row(&self) -> Option<&organization::Model> {
        self.organization.as_ref()
    }

    /// Waits until the database has said that the session is what it was taken for, where it was
    /// opened on what is [remembered](super::Preference::Remembered). If it is not, what was worked
    /// out in it is worth nothing, and nothing of it may leave.
    ///
    /// # Errors
    ///
    /// When the opening fails.
    pub async fn is_confirmed(&self) -> Result<bool> {
        self.opening.is_confirmed(&self.transaction).await
    }

    /// It was opened on what is remembered.
    pub fn is_speculative(&self) -> bool {
        self.opening.is_speculative()
    }

    /// Keeps what was done, and tells those who watch.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = self.remote.commit(self.opening.databases(), &self.transaction).await;
        // Whoever watches reads for themselves, so telling of what may not have happened does no
        // harm.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            self.opening.databases().change_feed().publish(self.changes.take());
        }
        committed
    }

    /// Tells, also when the session is gone, whether something was committed before its end.
    pub fn partly_committed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.partly_committed)
    }

    /// How often the session has entered an organization: what was loaded before belongs to
    /// another.
    pub fn entered(&self) -> u32 {
        self.entered.load(Ordering::Relaxed)
    }

    /// The identity that the request's token names: issuer and subject.
    pub fn identity(&self) -> (&str, &str) {
        self.opening.identity()
    }

    /// The organization, provided that the person's role includes `permission` and no suspension
    /// takes it away.
    ///
    /// # Errors
    ///
    /// Without an organization, without the permission, or while the organization is suspended.
    pub fn authorize(&self, permission: Permission) -> Result<Tenant> {
        let tenant = self.tenant().ok_or(Error::OrganizationRequired)?;
        if !permission.granted_to(tenant.role) {
            return Err(Error::Forbidden(permission));
        }
        let access = self.opening.access();
        match tenant.suspension {
            Some(suspension) if !suspension.leaves(permission, access) => {
                Err(Error::OrganizationSuspended)
            }
            _ => Ok(tenant),
        }
    }

    fn set_tenant(&self, tenant: Tenant) {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) = Some(tenant);
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// Goes on in an organization that does not exist yet, as its owner, and returns its id.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn begin_organization(&self) -> Result<OrganizationId> {
        let sql = "SELECT auth.begin_organization() AS id";
        let row = self.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        let row = row.ok_or_else(|| Error::internal("no organization was begun"))?;
        let organization_id = row.try_get("", "id")?;
        // The session may come from an organization with its own schema.
        self.transaction.go_to(None).await?;
        self.set_tenant(Tenant { organization_id, role: OrgRole::Owner, suspension: None });
        Ok(organization_id)
    }

    /// Goes on in the organization of an open invitation to a verified address of the caller, by
    /// the hash of its token, with the rights of a viewer; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When the organization is suspended or cannot be reached, or a statement fails.
    pub async fn enter_invited(&self, token_hash: &[u8]) -> Result<Option<InvitationId>> {
        let (databases, session_request) =
            (self.opening.databases(), self.opening.session_request());
        let (transaction, user) = (&self.transaction, self.viewer.user_id.0);
        let invited =
            enter_invited(databases, transaction, session_request, user, token_hash).await?;
        let Some(Invited { organization_id, invitation_id, remote_entry }) = invited else {
            return Ok(None);
        };
        if let Some(remote_entry) = remote_entry {
            self.remote.go(&self.transaction, remote_entry);
        }
        self.set_tenant(Tenant { organization_id, role: OrgRole::Viewer, suspension: None });
        Ok(Some(invitation_id))
    }

    /// Goes on in the current organization in the role that the caller was just given there.
    ///
    /// # Errors
    ///
    /// Without an organization, or when the statement fails.
    pub async fn assume_role(&self, role: OrgRole) -> Result<()> {
        let tenant = self.tenant().ok_or(Error::OrganizationRequired)?;
        self.execute_unprepared("SELECT auth.refresh_role()").await?;
        self.set_tenant(Tenant { role, ..tenant });
        Ok(())
    }

    /// The person has left the organization: what follows in the same request is in none. What was
    /// read of it may still be shown.
    pub fn leave(&self) {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Commits what was written so far, does `work` while no transaction is open, and goes on in a
    /// new transaction of the same person in the same organization. For what cannot go on without
    /// the answer of another service: nothing may hold a connection, let alone a lock, while that
    /// service thinks.
    ///
    /// # Errors
    ///
    /// When nothing was committed (then `work` was not begun), or there is no way back in.
    pub async fn outside<T>(&self, work: impl Future<Output = T> + Send) -> Result<T> {
        self.remote.commit(self.opening.databases(), &self.transaction).await?;
        self.partly_committed.store(true, Ordering::Relaxed);
        let outcome = work.await;
        // Whatever the work was, it cannot be taken back.
        let again = self.opening.again(&self.transaction, &self.remote).await;
        let tenant = again.map_err(Error::after_the_fact)?;
        if tenant.map(|tenant| tenant.organization_id)
            != self.tenant().map(|tenant| tenant.organization_id)
        {
            return Err(Error::OrganizationNotFound);
        }
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) = tenant;
        self.entered.fetch_add(1, Ordering::Relaxed);
        Ok(outcome)
    }

    /// Asks something that only the control database knows, in a transaction of its own, and keeps
    /// what was written there whatever becomes of this one; `None` when this one is in the control
    /// database, and can be asked itself.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn ask_control(
        &self,
        access: Access,
        statement: &Statement,
    ) -> Result<Option<Vec<QueryResult>>> {
        if !self.remote.is_there() {
            return Ok(None);
        }
        let (sql, values) = (&statement.sql, statement.values.clone());
        let rows = Box::pin(self.opening.ask_control(access, sql, values)).await?;
        let rows = rows.iter().map(|row| to_proxy_row(row).map(Into::into));
        Ok(Some(rows.collect::<Result<_, _>>()?))
    }

    /// Runs a statement where the request began: it may have gone on in another database since.
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

    /// Reads the person's role again: it may have changed while the request waited for a lock.
    ///
    /// # Errors
    ///
    /// When the person is no longer a member.
    pub async fn refresh_role(&self) -> Result<()> {
        let Some(Tenant { organization_id, suspension, .. }) = self.tenant() else {
            return Err(Error::OrganizationRequired);
        };
        let row = self
            .query_one_raw(Statement::from_sql_and_values(
                DbBackend::Postgres,
                "SELECT role::text FROM organization_members WHERE organization_id = $1 AND user_id = $2",
                [organization_id.into(), self.viewer.user_id.into()],
            ))
            .await?
            .ok_or(Error::OrganizationNotFound)?;
        let role = OrgRole::try_from_value(&row.try_get::<String>("", "role")?)?;
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Tenant { organization_id, role, suspension });
        Ok(())
    }
}

connection_of_transaction!(Session);

impl UnitOfWork for Session {
    fn organization(&self, permission: Permission) -> Result<OrganizationId> {
        let tenant = match permission {
            // What every operation needs besides its permission, billing during a suspension
            // included.
            Permission::OrganizationRead => self.tenant().ok_or(Error::OrganizationRequired)?,
            permission => self.authorize(permission)?,
        };
        Ok(tenant.organization_id)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn business(&self) -> &BusinessSettings {
        &self.business
    }

    fn note(&self, change: Change) {
        if let Some(tenant) = self.tenant() {
            self.changes.note(tenant.organization_id, change);
        }
    }

    fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    fn actor(&self) -> Actor<'_> {
        Actor::User(self.viewer.user_id, self.viewer.client_ip)
    }
}
