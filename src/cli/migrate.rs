//! `tenantry migrate`

use migration::{Report, Schemas};

use super::{Failure, runtime, say};
use crate::config::parse_database_url;

/// Bring a database up to date, and create or check the two roles. Safe to run at any time, from several places at once.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// PostgreSQL as a role that may create roles: a superuser, or the owner of the database with CREATEROLE.
    #[arg(
        long,
        env = "MIGRATION_DATABASE_URL",
        value_name = "MIGRATION_DATABASE_URL",
        hide_env_values = true
    )]
    migration_database_url: Option<String>,

    /// The address that servers will use; its password becomes that of the role tenantry_app.
    #[arg(long, env = "DATABASE_URL", value_name = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Schemas of organizations that are migrated at the same time, each over a connection of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = migration::CONCURRENCY)]
    concurrency: usize,
}

impl Migrate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let url = self.migration_database_url.as_deref().ok_or_else(|| {
            Failure::new(
                "MIGRATION_DATABASE_URL is not set: it must be PostgreSQL as a role that may create roles, for example \
                 postgres://postgres:PASSWORD@HOST/DATABASE",
            )
        })?;
        let options = parse_database_url("MIGRATION_DATABASE_URL", url).map_err(Failure::new)?;
        let password = self.app_password()?;
        let run = migration::Run {
            concurrency: self.concurrency,
            progress: |line| eprintln!("{line}"),
            ..migration::Run::default()
        };
        let report = runtime()?
            .block_on(migration::migrate_with(options, password.as_deref(), &run))
            .map_err(|error| Failure::new(format!("the database was not migrated: {error}")))?;
        tell(&report)
    }

    /// The password of the app role, which must be the one that servers log in as.
    fn app_password(&self) -> Result<Option<String>, Failure> {
        let Some(text) = self.database_url.as_deref() else {
            return Ok(None);
        };
        let login = parse_database_url("DATABASE_URL", text).map_err(Failure::new)?;
        if login.get_username() != migration::APP_ROLE {
            return Err(Failure::new(format!(
                "DATABASE_URL logs in as {}: servers must use the role {}",
                login.get_username(),
                migration::APP_ROLE
            )));
        }
        let url = url::Url::parse(text).map_err(Failure::new)?;
        let password = url.password().map(|password| {
            percent_encoding::percent_decode_str(password).decode_utf8().map(Into::into)
        });
        password.transpose().map_err(|_| Failure::new("the password in DATABASE_URL is not UTF-8"))
    }
}

fn tell(Report { applied, schemas }: &Report) -> Result<(), Failure> {
    for step in applied {
        say(format!("applied {step}"));
    }
    if schemas.migrated > 0 {
        say(format!("migrated {} schemas of organizations", schemas.migrated));
    }
    for organization in &schemas.given_up {
        say(format!("gave up the interrupted move of organization {organization}: begin it again"));
    }
    for (schema, reason) in &schemas.failed {
        say(format!("failed: {schema}: {reason}"));
    }
    if !schemas.failed.is_empty() {
        return Err(Failure::new(format!(
            "{} schemas of organizations were not migrated: mend what failed, and run tenantry migrate again",
            schemas.failed.len()
        )));
    }
    if applied.is_empty() && *schemas == Schemas::default() {
        say("The database is up to date.");
    }
    Ok(())
}
