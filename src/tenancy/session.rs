//! The session: caller, organization and transaction. Every operation takes it as its first
//! parameter. Its settings always match the tenant that PostgreSQL resolved in this transaction.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId, organization};
use sea_orm::{ActiveEnum, ConnectionTrait, DbBackend, QueryResult, Statement};

use super::{
    Access, BusinessSettings, Change, Settings, Suspension, Transaction,
    change::Changes,
    enter_organization::{Invited, enter_invited, follow_invited},
    open::Opening,
    remote::Remote,
    unit_of_work::{Actor, UnitOfWork, connection_of_transaction},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
};

/// The user of a request.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The id in `auth.users`.
    pub user_id: UserId,
    /// The verified e-mail address in the request's token; `None` if a newer token of the identity
    /// has another one.
    pub verified_email: Option<String>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
}

/// The organization of a request, and the user's role in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The organization in the transaction's settings.
    pub organization_id: OrganizationId,
    /// The user's role, as read in this transaction.
    pub role: OrgRole,
    /// The suspension, if the operator has suspended the organization.
    pub suspension: Option<Suspension>,
}

/// The access of one request to the database.
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
    /// Boxed: large, and rarely needed.
    opening: Box<Opening>,
    changes: Changes,
    /// The identities of the user have changed, which dedicated databases have copies of.
    identities_changed: AtomicBool,
    /// Whether [`outside`](Self::outside) has committed a part of the request.
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
            identities_changed: AtomicBool::new(false),
            partly_committed: Arc::default(),
        }
    }

    /// The user who sent the request.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The organization without a permission check, for finding out where the request is.
    /// Operations use [`authorize`](Self::authorize).
    pub fn tenant(&self) -> Option<Tenant> {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Whether the request is in an organization.
    pub fn in_organization(&self) -> bool {
        self.tenant().is_some()
    }

    /// The organization's row, which only the opening of a query reads.
    pub fn organization_row(&self) -> Option<&organization::Model> {
        self.organization.as_ref()
    }

    /// Waits until the database confirms the cached context of a session opened with
    /// [`Preference::Speculative`](super::Preference::Speculative). If this returns `false`,
    /// discard all results of the session.
    ///
    /// # Errors
    ///
    /// When the opening failed.
    pub async fn is_confirmed(&self) -> Result<bool> {
        self.opening.is_confirmed(&self.transaction).await
    }

    /// Whether the session was opened on a cached context.
    pub fn is_speculative(&self) -> bool {
        self.opening.is_speculative()
    }

    /// Commits, and publishes the changes to subscribers.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn commit(&self) -> Result<()> {
        let committed = self.remote.commit(self.opening.databases(), &self.transaction).await;
        // Subscribers read the changes themselves, so publishing one that did not happen is
        // harmless.
        if matches!(committed, Ok(()) | Err(Error::CommitOutcomeUnknown(_))) {
            self.opening.databases().change_feed().publish(self.changes.take());
            if self.identities_changed.load(Ordering::Relaxed) {
                self.opening.databases().users_changed().notify_one();
            }
        }
        committed
    }

    /// Dedicated databases receive the identities of the user right after the commit.
    pub fn note_identities(&self) {
        self.identities_changed.store(true, Ordering::Relaxed);
    }

    /// A flag that outlives the session: whether a part of the request was committed before its
    /// end.
    pub fn partly_committed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.partly_committed)
    }

    /// How often the session has entered an organization. Values loaded before belong to another
    /// one.
    pub fn entered(&self) -> u32 {
        self.entered.load(Ordering::Relaxed)
    }

    /// The identity in the request's token: issuer and subject.
    pub fn identity(&self) -> (&str, &str) {
        self.opening.identity()
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

    /// Enters a new organization as its owner, and returns its id; the caller inserts its row.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn begin_organization(&self) -> Result<OrganizationId> {
        let sql = "SELECT auth.enter_new_organization() AS id";
        let row = self.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        let row =
            row.ok_or_else(|| Error::internal("auth.enter_new_organization returned no row"))?;
        let organization_id = row.try_get("", "id")?;
        // The session may have been in an organization with a dedicated schema.
        self.transaction.go_to(None).await?;
        self.set_tenant(Tenant { organization_id, role: OrgRole::Owner, suspension: None });
        Ok(organization_id)
    }

    /// Enters the organization of an open invitation to a verified address of the caller, with the
    /// rights of a viewer. Finds it by the hash of its token; `None` if there is none. If the
    /// organization [lives elsewhere](Invited::is_elsewhere), the session stays in the control
    /// database until [`follow_invited`](Self::follow_invited).
    ///
    /// # Errors
    ///
    /// When the organization is suspended or cannot be reached, or a statement fails.
    pub async fn enter_invited(&self, token_hash: Vec<u8>) -> Result<Option<Invited>> {
        let invited = enter_invited(&self.transaction, token_hash).await?;
        if let Some(Invited { organization_id, .. }) = invited {
            self.set_tenant(Tenant { organization_id, role: OrgRole::Viewer, suspension: None });
        }
        Ok(invited)
    }

    /// Copies the caller to the dedicated database of the organization, and goes on there. The copy
    /// stays even if the request fails, so the invitation is checked before. Returns whether
    /// the invitation is open there as well.
    ///
    /// # Errors
    ///
    /// When the organization does not live in a dedicated database, is suspended or cannot be
    /// reached, or a statement fails.
    pub async fn follow_invited(&self, invited: &Invited) -> Result<bool> {
        let (databases, session_request) =
            (self.opening.databases(), self.opening.session_request());
        let user = self.viewer.user_id.0;
        let Some(remote_entry) = follow_invited(databases, session_request, user, invited).await?
        else {
            return Ok(false);
        };
        self.remote.go(&self.transaction, remote_entry);
        let organization_id = invited.organization_id;
        self.set_tenant(Tenant { organization_id, role: OrgRole::Viewer, suspension: None });
        Ok(true)
    }

    /// Continues in the present organization with the role that the caller has just received.
    ///
    /// # Errors
    ///
    /// When there is no organization, or the statement fails.
    pub async fn assume_role(&self, role: OrgRole) -> Result<()> {
        let tenant = self.tenant().ok_or(Error::OrganizationRequired)?;
        self.execute_unprepared("SELECT auth.refresh_role()").await?;
        self.set_tenant(Tenant { role, ..tenant });
        Ok(())
    }

    /// Leaves the organization after the membership was deleted. Fields of the same response may
    /// still show what was read before.
    pub fn leave(&self) {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Commits, runs `work` without an open transaction, and continues in a new transaction of the
    /// same user and organization. Use it for calls to other services, during which a request must
    /// hold neither a connection nor a lock.
    ///
    /// # Errors
    ///
    /// When the commit failed (then `work` has not run), or the user has lost access meanwhile.
    pub async fn outside<T>(&self, work: impl Future<Output = T> + Send) -> Result<T> {
        self.remote.commit(self.opening.databases(), &self.transaction).await?;
        self.partly_committed.store(true, Ordering::Relaxed);
        let outcome = work.await;
        // The effects of `work` cannot be undone.
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
        if !self.remote.is_there() {
            return Ok(None);
        }
        let (sql, values) = (&statement.sql, statement.values.clone());
        let asked = self.opening.ask_control(&self.transaction, access, sql, values);
        let rows = Box::pin(asked).await?;
        let rows = rows.iter().map(pg::to_query_result);
        Ok(Some(rows.collect::<pg::Result<_>>()?))
    }

    /// Runs a statement in the transaction in which the request began, even after the session has
    /// moved to a dedicated database.
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

    /// Reads the user's role again, which may have changed while the request waited for a lock.
    ///
    /// # Errors
    ///
    /// When the user is no longer a member.
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
    fn require(&self, permission: Permission) -> Result<OrganizationId> {
        Ok(self.authorize(permission)?.organization_id)
    }

    fn organization_id(&self) -> Result<OrganizationId> {
        Ok(self.tenant().ok_or(Error::OrganizationRequired)?.organization_id)
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
