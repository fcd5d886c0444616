//! A PostgreSQL for one test, whose roles no other test uses.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use embedded_postgres::{Embedded, Options};
use migration::{Error, Passwords, Report, Run, migrate_with};
use pg::{Client, ConnectOptions, FromRow};
use tempfile::TempDir;

use crate::support::process::{self, Output, tenantry};

pub(super) struct Server {
    server: Embedded,
    folder: TempDir,
}

impl Server {
    /// Starts an empty server, in which every login is trusted.
    pub(super) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tenantry-server-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options { folder: folder.path().join("postgres"), throwaway: true };
        Self { server: Embedded::start(&options).unwrap(), folder }
    }

    pub(super) fn url(&self, role: &str, database: &str) -> String {
        self.server.url(role, database)
    }

    pub(super) fn options(&self, role: &str, database: &str) -> ConnectOptions {
        self.url(role, database).parse().unwrap()
    }

    /// Returns a file of the server's directory, which has the name of the version.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let mut versions = fs::read_dir(self.folder.path().join("postgres")).unwrap();
        let is_version = |path: &PathBuf| path.join("data").is_dir();
        versions
            .find_map(|entry| Some(entry.unwrap().path()).filter(is_version))
            .unwrap()
            .join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.file("postgresql.log")).unwrap()
    }

    /// Runs statements as the superuser, each in a transaction.
    pub(super) async fn execute(&self, database: &str, statements: &[&str]) {
        let admin = Client::connect(&self.options("postgres", database)).await.unwrap();
        for statement in statements {
            admin.batch(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        admin.close().await;
    }

    /// Returns the only value of a query as the superuser.
    pub(super) async fn value<T: FromRow>(&self, database: &str, sql: &str) -> T {
        let admin = Client::connect(&self.options("postgres", database)).await.unwrap();
        admin.query_one(sql, &[]).await.unwrap()
    }

    pub(super) async fn version(&self) -> i32 {
        let version = "SELECT current_setting('server_version_num')::int / 10000";
        self.value("postgres", version).await
    }

    /// Migrates a database as this role.
    pub(super) async fn migrate(
        &self,
        role: &str,
        database: &str,
        app_password: Option<&str>,
    ) -> Result<Report, Error> {
        let passwords = Passwords { app: app_password, system: app_password };
        migrate_with(self.options(role, database), passwords, &Run::default()).await
    }

    /// Runs `tenantry doctor` in a database.
    pub(super) fn doctor(&self, database: &str) -> Output {
        let url = self.url("tenantry_app", database);
        process::run(tenantry().arg("doctor").env("DATABASE_URL", url))
    }
}
