//! A database created by the migrations, with the same rows in every run.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tokens are for today, and the server's own address is valid"
)]

use std::{path::PathBuf, process::Command};

use pg::{Client, ConnectOptions};
use uuid::Uuid;

use embedded_postgres::{Embedded, Options};

use crate::Failure;

pub(crate) const SECRET: &str = "the secret of the benchmark which protects nothing";

/// Projects of each organization, as in `seed.sql`.
const PROJECTS: u32 = 20;

/// Users of each organization, as in `seed.sql`.
pub(crate) const USERS: u32 = 5;

/// The rows of `seed.sql`, on a server that ends when this is dropped.
pub(crate) struct Seeded {
    pub(crate) organizations: u32,
    tokens: Vec<String>,
    /// Ids, beginning with those of the first organization.
    projects: Vec<Uuid>,
    postgres: Embedded,
    _folder: tempfile::TempDir,
}

impl Seeded {
    pub(crate) fn all(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.organizations
    }

    /// The token of user `k` of organization `n`. The first user is the owner.
    pub(crate) fn token(&self, n: u32, k: u32) -> &str {
        &self.tokens[((n - 1) * USERS + k - 1) as usize]
    }

    pub(crate) fn create(organizations: u32) -> Result<Self, Failure> {
        eprintln!("creating {organizations} organizations");
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        // When this process runs as root, the server runs as another user.
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        // Nothing waits for the disk, whose latency would hide the cost of the programs.
        let options = Options { folder: folder.path().join("postgres"), throwaway: true };
        let postgres = Embedded::start(&options)?;
        let projects = Vec::new();
        let tokens = tokens(organizations)?;
        let mut seeded = Self { organizations, tokens, projects, postgres, _folder: folder };
        let sql = include_str!("seed.sql").replace(":organizations", &organizations.to_string());
        runtime()?.block_on(async {
            let options = seeded.admin();
            migration::migrate(options.clone(), None).await?;
            let connection = Client::connect(&options).await?;
            connection.batch("SET synchronous_commit = off").await?;
            connection.batch(&sql).await?;
            connection.batch("VACUUM ANALYZE").await?;
            connection.batch("CHECKPOINT").await?;
            seeded.projects = connection
                .query(
                    "SELECT md5('project' || n || '-' || p)::uuid FROM generate_series(1, $1) n, generate_series(1, $2) p ORDER BY n, p",
                    &[&i32::try_from(organizations)?, &i32::try_from(PROJECTS)?],
                )
                .await?;
            Ok::<_, Failure>(())
        })?;
        Ok(seeded)
    }

    /// Deletes the projects that workload W4 has created, so that every measurement starts with the
    /// same rows.
    pub(crate) async fn delete_created(&self) -> Result<(), Failure> {
        self.delete_created_in(&self.admin()).await
    }

    pub(crate) async fn delete_created_in(&self, database: &ConnectOptions) -> Result<(), Failure> {
        let connection = Client::connect(database).await?;
        let gone = connection
            .execute("DELETE FROM app.projects WHERE created_at > '2026-06-01'", &[])
            .await?;
        if gone > 0 {
            connection
                .batch("DELETE FROM audit.audit_logs WHERE created_at > '2026-06-01'")
                .await?;
            connection
                .batch("VACUUM app.projects, audit.audit_logs, billing.organization_billing")
                .await?;
        }
        Ok(())
    }

    /// Returns a random project of an organization, and its number in that organization.
    pub(crate) fn any_project(&self, n: u32) -> (Uuid, u32) {
        let number = fastrand::u32(1..=PROJECTS);
        (self.projects[((n - 1) * PROJECTS + number - 1) as usize], number)
    }

    /// Returns the superuser's connection options.
    pub(crate) fn admin(&self) -> ConnectOptions {
        self.postgres.admin_url().parse().unwrap()
    }

    /// Returns the database URL for the server.
    pub(crate) fn url(&self) -> String {
        self.postgres.url("tenantry_app", "postgres")
    }

    /// Returns the URL of a database for a role.
    pub(crate) fn url_of(&self, role: &str, database: &str) -> String {
        self.postgres.url(role, database)
    }

    /// Returns the directory of PostgreSQL's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.admin().host().into()
    }

    pub(crate) fn postgres_pid(&self) -> u32 {
        self.postgres.pid()
    }

    /// Returns one of PostgreSQL's programs as a command.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.postgres.program(name))
    }
}

/// Returns the tokens of all users, organization by organization.
pub(crate) fn tokens(organizations: u32) -> Result<Vec<String>, Failure> {
    let expires = chrono::Utc::now().timestamp() + 86_400;
    (1..=organizations)
        .flat_map(|n| (1..=USERS).map(move |k| (n, k)))
        .map(|(n, k)| {
            let claims = serde_json::json!({ "sub": format!("user-{n}-{k}"), "exp": expires });
            Ok(tenantry::auth::sign(SECRET, &claims)?)
        })
        .collect()
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
