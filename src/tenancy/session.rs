//! The session: who calls, in which organization, in which transaction. The first parameter of every operation.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId};
use sea_orm::{ActiveEnum, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::Transaction;
use crate::{
    auth::Permission,
    clock::Clock,
    error::{Error, Result},
};

/// What operations need to know beyond the database.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The time.
    pub clock: Clock,
    /// The rules that the operator set.
    pub rules: Arc<Rules>,
}

/// Business rules that are settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long an organization keeps its plan after a payment failed.
    pub billing_grace: chrono::Duration,
    /// How long a trial lasts.
    pub trial_term: chrono::Duration,
    /// How many organizations a person may own before they can found no more.
    pub max_owned_organizations: u32,
    /// How long an invitation can be accepted.
    pub invitation_term: chrono::Duration,
    /// What makes the tokens of invitations.
    pub invitation_key: InvitationKey,
    /// Where the links of invitations lead, without a slash at the end.
    pub public_url: String,
}

/// The key of the invitations' tokens; never shown.
#[derive(Clone)]
pub struct InvitationKey(pub Vec<u8>);

impl std::fmt::Debug for InvitationKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("InvitationKey(…)")
    }
}

/// The person of a request.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Their row in `auth.users`.
    pub user_id: UserId,
    /// The verified e-mail address that the request's token has.
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
}

/// One request's way to the database.
#[derive(Debug)]
pub struct Session {
    transaction: Transaction,
    viewer: Viewer,
    tenant: Mutex<Option<Tenant>>,
    entered: AtomicU32,
    now: DateTime<Utc>,
    rules: Arc<Rules>,
}

impl Session {
    pub(super) fn new(
        transaction: Transaction,
        viewer: Viewer,
        tenant: Option<Tenant>,
        environment: &Environment,
    ) -> Self {
        Self {
            transaction,
            viewer,
            tenant: Mutex::new(tenant),
            entered: AtomicU32::new(0),
            now: environment.clock.now(),
            rules: Arc::clone(&environment.rules),
        }
    }

    /// The person who calls.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    fn tenant(&self) -> Option<Tenant> {
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the request began; everything in it happens at this time.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The operator's rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The transaction, for whoever ends it.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// How often the session has entered an organization: what was loaded before belongs to another.
    pub fn entered(&self) -> u32 {
        self.entered.load(Ordering::Relaxed)
    }

    /// The organization, provided that the person's role includes `permission`.
    ///
    /// # Errors
    ///
    /// Without an organization, or without the permission.
    pub fn authorize(&self, permission: Permission) -> Result<Tenant> {
        let tenant = self.tenant().ok_or(Error::OrganizationRequired)?;
        if permission.granted_to(tenant.role) {
            Ok(tenant)
        } else {
            Err(Error::Forbidden(permission))
        }
    }

    /// Goes on in another organization, whose settings now hold: a new one, or one just joined.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn enter(&self, tenant: Tenant) -> Result<()> {
        self.execute_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT set_config('app.current_org_id', $1, true), set_config('app.current_role', $2, true)",
            [tenant.organization_id.to_string().into(), tenant.role.to_value().into()],
        ))
        .await?;
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) = Some(tenant);
        self.entered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the person's role again: it may have changed while the request waited for a lock.
    ///
    /// # Errors
    ///
    /// When the person is no longer a member.
    pub async fn refresh_role(&self) -> Result<()> {
        let Some(Tenant { organization_id, .. }) = self.tenant() else {
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
        let role = OrgRole::try_from_value(&row.try_get_by_index::<String>(0)?)?;
        *self.tenant.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Tenant { organization_id, role });
        Ok(())
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Session {
    fn get_database_backend(&self) -> DbBackend {
        self.transaction.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.transaction.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.transaction.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.transaction.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.transaction.query_all_raw(statement).await
    }
}
