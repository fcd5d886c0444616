//! What a person's [`Session`](super::Session) and a [`SystemSession`](super::SystemSession) have
//! in common, for operations that need no person.

use chrono::{DateTime, Utc};
use entity::{OrganizationId, UserId};
use sea_orm::ConnectionTrait;

use super::{BusinessSettings, Change, Transaction};
use crate::{auth::Permission, error::Result};

/// One transaction inside an organization.
pub trait UnitOfWork: ConnectionTrait {
    /// The organization, provided that whoever works here has the permission; the system has all of
    /// them.
    ///
    /// # Errors
    ///
    /// Without an organization, or without the permission.
    fn organization(&self, permission: Permission) -> Result<OrganizationId>;

    /// When the work began; everything in it happens at this time.
    fn now(&self) -> DateTime<Utc>;

    /// The operator's rules.
    fn business(&self) -> &BusinessSettings;

    /// Remembers what was changed, for those who watch; they are told after the commit.
    fn note(&self, change: Change);

    /// The transaction itself.
    fn transaction(&self) -> &Transaction;

    /// Who works here.
    fn actor(&self) -> Actor<'_>;
}

/// Who acts, for the audit log.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'scope> {
    /// A person, by their row in `auth.users`, and the address that they call from.
    User(UserId, Option<std::net::IpAddr>),
    /// Nobody: what acts instead.
    System(&'scope str),
}

/// Statements of a session are those of its transaction.
macro_rules! connection_of_transaction {
    ($session:ty) => {
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
