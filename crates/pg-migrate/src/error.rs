//! Why a database could not be prepared.

/// Why a database could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error("{}", .0.explained())]
    Database(#[from] pg::Error),
    /// The server is too old or a standby, or the database has another encoding.
    #[error("the database cannot be used: {0}")]
    Unsuitable(String),
    /// The database has schemas of another program.
    #[error(
        "the database already has the schema {0}, which the migration creates: use another database, for example a new one"
    )]
    ForeignSchema(String),
    /// The login lacks rights, and nothing was changed.
    #[error(
        "{login} cannot prepare the roles and the database: use a superuser, or a role with CREATEROLE that owns the database and administers its roles; or run as one of them: {statements}"
    )]
    MissingRights {
        /// The role of the login.
        login: String,
        /// The statements that give it the rights.
        statements: String,
    },
    /// One of the roles has rights over the server. With them it could bypass row-level security,
    /// or own databases.
    #[error(
        "the role {0} has rights over the server, which it must not have: run ALTER ROLE {0} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION"
    )]
    PowerfulRole(String),
}
