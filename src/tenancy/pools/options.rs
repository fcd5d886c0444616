//! The addresses of a server's databases, and the pools that it opens there.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use pg::{ConnectOptions, ConnectionPool, PoolOptions};

use crate::error::Result;

/// The maximum number of connections for background work.
pub const SYSTEM_CONNECTIONS: usize = 3;

/// The address of a database, and the size of its pools.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Address, login and session options.
    pub connect: ConnectOptions,
    /// The login of background work; `None` derives it from `connect`.
    pub system: Option<ConnectOptions>,
    /// The address for LISTEN, needed behind a transaction pooler: each client must keep its own
    /// server connection there.
    pub listen: Option<ConnectOptions>,
    /// A standby for queries that accept stale data.
    pub replica: Option<ConnectOptions>,
    /// The dedicated databases, by name.
    pub dedicated: Vec<(String, ConnectOptions)>,
    /// The maximum size of each request pool.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for opening one.
    pub acquire_timeout: Duration,
    /// The number of prepared statements that a connection keeps; 0 disables named statements.
    pub statement_cache: usize,
}

/// How long background work waits for an answer: longer than the role's `statement_timeout`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

impl DatabaseOptions {
    /// A pool for requests, which have deadlines.
    pub(in crate::tenancy) fn request_pool(&self) -> Result<ConnectionPool> {
        self.pool(&self.connect, "tenantry", self.max_connections, Duration::MAX)
    }

    /// A pool of at most `most` connections for work without deadlines.
    pub(in crate::tenancy) fn background_pool(
        &self,
        name: &str,
        most: usize,
    ) -> Result<ConnectionPool> {
        self.pool(&self.connect, name, most, ANSWER_TIMEOUT)
    }

    /// The same with the login of background work.
    pub(in crate::tenancy) fn system_pool(
        &self,
        name: &str,
        most: usize,
    ) -> Result<ConnectionPool> {
        let login = self.system.clone().unwrap_or_else(|| system_login(&self.connect));
        self.pool(&login, name, most, ANSWER_TIMEOUT)
    }

    fn pool(
        &self,
        connect: &ConnectOptions,
        name: &str,
        most: usize,
        answer_timeout: Duration,
    ) -> Result<ConnectionPool> {
        Ok(ConnectionPool::new(PoolOptions {
            connect: connect.clone().with("application_name", name),
            max_connections: self.max_connections.min(most),
            acquire_timeout: self.acquire_timeout,
            statement_cache: self.statement_cache,
            answer_timeout,
        })?)
    }
}

/// The login of background work at the same address. Role and password derive from the app login,
/// so servers and `tenantry migrate` need no additional setting.
fn system_login(app: &ConnectOptions) -> ConnectOptions {
    let system = app.clone().with("user", migration::SYSTEM_ROLE);
    match app.get("password") {
        Some(password) => system.with("password", system_password(password)),
        None => system,
    }
}

/// The default password of the role for background work. SQL that runs as the app role knows
/// neither this password nor its own.
#[must_use]
pub fn system_password(app_password: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, app_password.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"tenantry: password of tenantry_system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_logs_in_with_a_password_derived_from_the_app_s() {
        let system = |url: &str| system_login(&url.parse().unwrap());
        let derived = system("postgres://tenantry_app:p%25@db.example/shop?sslmode=require");
        assert_eq!(derived.user(), "tenantry_system");
        assert_eq!(derived.get("dbname"), Some("shop"));
        assert_eq!(derived.get("password"), Some(&*system_password("p%")));
        assert_ne!(system_password("p%"), system_password("p"));
        assert_eq!(system("postgres://tenantry_app@db.example/shop").get("password"), None);
    }
}
