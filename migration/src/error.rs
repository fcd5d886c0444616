//! Why a database could not be migrated.

use crate::steps::INCOMPATIBLE;

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error("{}", .0.explained())]
    Database(#[from] pg::Error),
    /// A step failed and was rolled back.
    #[error("the step {name} failed: {}", .cause.explained())]
    Step {
        /// Its name.
        name: &'static str,
        /// PostgreSQL's error.
        cause: pg::Error,
    },
    /// The steps of the database are not those of this program.
    #[error("{INCOMPATIBLE}")]
    Incompatible,
    /// A newer tenantry migrated the database.
    #[error("the database was migrated by a newer version of tenantry. Use that version.")]
    Newer,
    /// The server is too old or a standby, or the database has another encoding.
    #[error("the database cannot be used: {0}")]
    Unsuitable(String),
    /// The database has schemas of another program.
    #[error(
        "the database already has the schema {0}, which tenantry creates for itself: use another database, for example after CREATE DATABASE tenantry"
    )]
    ForeignSchema(String),
    /// The login lacks rights, and nothing was changed.
    #[error(
        "{login} cannot prepare the roles and the database: use a superuser, or a role with CREATEROLE that owns the database and administers tenantry's roles; or run as one of them: {statements}"
    )]
    MissingRights {
        /// The role of the login.
        login: String,
        /// The statements that give it the rights.
        statements: String,
    },
    /// One of the roles has rights that bypass row-level security.
    #[error(
        "the role {0} has rights that bypass row-level security: run ALTER ROLE {0} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION"
    )]
    PowerfulRole(String),
}
