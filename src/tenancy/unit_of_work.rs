//! The unit of work: what a [`Session`](super::Session) of a user and a
//! [`SystemSession`](super::SystemSession) have in common. Operations that need no user take it.

use chrono::{DateTime, Utc};
use entity::{OrganizationId, UserId};
use sea_orm::ConnectionTrait;

use super::{Change, Settings, Transaction};
use crate::{auth::Permission, error::Result};

/// A transaction inside an organization.
pub trait UnitOfWork: ConnectionTrait + AsRef<Transaction> {
    /// The organization, if the actor has the permission. Background work has every permission.
    ///
    /// # Errors
    ///
    /// When there is no organization, or the permission is missing.
    fn require(&self, permission: Permission) -> Result<OrganizationId>;

    /// The organization, for what an operation does besides its own check of permissions.
    ///
    /// # Errors
    ///
    /// When there is no organization.
    fn organization_id(&self) -> Result<OrganizationId>;

    /// When the work began. All its changes have this time.
    fn now(&self) -> DateTime<Utc>;

    /// The operator's settings.
    fn settings(&self) -> &Settings;

    /// Records a change, which is published to subscribers after the commit.
    fn note(&self, change: Change);

    /// The actor.
    fn actor(&self) -> Actor<'_>;
}

/// The actor of a change, for the audit log.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'scope> {
    /// A user, by id in `auth.users`, with the client's address.
    User(UserId, Option<std::net::IpAddr>),
    /// Background work, by its reason.
    System(&'scope str),
}

/// Implements `ConnectionTrait` for a session with its transaction.
macro_rules! connection_of_transaction {
    ($session:ty) => {
        impl AsRef<Transaction> for $session {
            fn as_ref(&self) -> &Transaction {
                &self.transaction
            }
        }

        #[sea_orm::prelude::async_trait::async_trait]
        impl sea_orm::ConnectionTrait for $session {
            fn get_database_backend(&self) -> sea_orm::DbBackend {
                self.transaction.get_database_backend()
            }

            async fn execute_raw(
                &self,
                statement: sea_orm::Statement,
            ) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                self.transaction.execute_raw(statement).await
            }

            async fn execute_unprepared(
                &self,
                sql: &str,
            ) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
                self.transaction.execute_unprepared(sql).await
            }

            async fn query_one_raw(
                &self,
                statement: sea_orm::Statement,
            ) -> Result<Option<sea_orm::QueryResult>, sea_orm::DbErr> {
                self.transaction.query_one_raw(statement).await
            }

            async fn query_all_raw(
                &self,
                statement: sea_orm::Statement,
            ) -> Result<Vec<sea_orm::QueryResult>, sea_orm::DbErr> {
                self.transaction.query_all_raw(statement).await
            }
        }
    };
}
pub(super) use connection_of_transaction;
