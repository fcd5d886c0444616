//! `tenantry migrate`: the control database first, then those of organizations' own, each for
//! itself.
#![expect(clippy::disallowed_types, reason = "databases are made ready here, for all tenants")]

use migration::{Passwords, Report, Schemas, dedicated};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use super::{
    Failure,
    owner::{check_control, connect_as_owner, in_use, known_as, warn_of_transport},
    runtime, say,
};
use crate::{
    config::{NamedDatabase, databases, parse_database_url},
    tenancy::system_password,
};

/// Bring databases up to date, and create or check the three roles. Safe to run at any time, from
/// several places at once.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// PostgreSQL as a role that may create roles: a superuser, or the owner of the database with
    /// CREATEROLE.
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

    /// The address that servers will use for background work; its password becomes that of the role
    /// tenantry_system. When not set, that password is made from the one in DATABASE_URL.
    #[arg(
        long,
        env = "SYSTEM_DATABASE_URL",
        value_name = "SYSTEM_DATABASE_URL",
        hide_env_values = true
    )]
    system_database_url: Option<String>,

    /// Databases of organizations' own, as NAME=URL, separated by white space; in such a role as
    /// well.
    #[arg(
        long,
        env = "MIGRATION_DATABASES",
        value_name = "MIGRATION_DATABASES",
        hide_env_values = true
    )]
    migration_databases: Option<String>,

    /// These as servers will use them; the passwords become those of the role tenantry_app there.
    #[arg(long, env = "DATABASES", value_name = "DATABASES", hide_env_values = true)]
    databases: Option<String>,

    /// Schemas of organizations that are migrated at the same time, each over a connection of its
    /// own.
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
        warn_of_transport("MIGRATION_DATABASE_URL", &options);
        let login = self.database_url.as_deref();
        let app = login.map(|url| app_password("DATABASE_URL", url)).transpose()?.flatten();
        let system = self.system_database_url.as_deref();
        let system = system
            .map(|url| password_of("SYSTEM_DATABASE_URL", url, migration::SYSTEM_ROLE))
            .transpose()?
            .flatten();
        let password = Logins { system: system.or_else(|| derived(app.as_deref())), app };
        let there = self.dedicated()?;
        runtime()?.block_on(async {
            let report = self
                .migrate(&options, password.passwords())
                .await
                .map_err(|error| Failure::new(format!("the database was not migrated: {error}")))?;
            let mut failed = tell(&report, None);
            let mut control = connect_as_owner(&options).await?;
            check_control(&mut control).await?;
            let mut missing = 0;
            for database in &there {
                match self.make_ready(&mut control, database).await {
                    Ok(report) => failed.extend(tell(&report, Some(&database.name))),
                    Err(error) => {
                        say(format!("failed: the database {}: {error}", database.name));
                        missing += 1;
                    }
                }
            }
            self.warn(&mut control, &there).await?;
            if missing > 0 {
                failed.push(format!("{missing} databases of organizations were not made ready"));
            }
            if failed.is_empty() {
                return Ok(());
            }
            Err(Failure::new(format!(
                "{}: mend what failed, and run tenantry migrate again",
                failed.join(", ")
            )))
        })
    }

    async fn migrate(
        &self,
        options: &PgConnectOptions,
        passwords: Passwords<'_>,
    ) -> Result<Report, migration::Error> {
        let run = migration::Run {
            concurrency: self.concurrency,
            progress: |line| eprintln!("{line}"),
            ..migration::Run::default()
        };
        migration::migrate_with(options.clone(), passwords, &run).await
    }

    /// The databases of organizations' own, and the passwords that servers have there.
    fn dedicated(&self) -> Result<Vec<DedicatedDatabase>, Failure> {
        let read = |variable, text: &Option<String>| {
            databases(variable, text.as_deref().unwrap_or_default()).map_err(Failure::new)
        };
        let served = read("DATABASES", &self.databases)?;
        read("MIGRATION_DATABASES", &self.migration_databases)?
            .into_iter()
            .map(|NamedDatabase { name, connect, .. }| {
                let login = served.iter().find(|database| database.name == name);
                let password = login
                    .map(|login| app_password(&format!("DATABASES: {name}"), &login.url))
                    .transpose()?
                    .flatten();
                let password = Logins { system: derived(password.as_deref()), app: password };
                Ok(DedicatedDatabase { name, connect, password })
            })
            .collect()
    }

    async fn make_ready(
        &self,
        control: &mut PgConnection,
        database: &DedicatedDatabase,
    ) -> Result<Report, Failure> {
        warn_of_transport(&format!("MIGRATION_DATABASES: {}", database.name), &database.connect);
        check_unused(control, database).await?;
        let report = self
            .migrate(&database.connect, database.password.passwords())
            .await
            .map_err(Failure::new)?;
        let mut there = connect_as_owner(&database.connect).await?;
        dedicated::dedicate(&mut there, &database.name).await.map_err(Failure::new)?;
        if dedicated::bring_catalogue(control, &mut there).await? {
            say(format!("brought the plans to the database {}", database.name));
        }
        Ok(report)
    }

    /// Warns of databases that somebody uses, or will, and that were left as they are.
    async fn warn(
        &self,
        control: &mut PgConnection,
        migrated: &[DedicatedDatabase],
    ) -> Result<(), Failure> {
        let is_missing = |name: &str| !migrated.iter().any(|database| database.name == name);
        let served = databases("DATABASES", self.databases.as_deref().unwrap_or_default())
            .map_err(Failure::new)?;
        for NamedDatabase { name, .. } in served.iter().filter(|served| is_missing(&served.name)) {
            say(format!(
                "warning: the database {name} of DATABASES is not in MIGRATION_DATABASES, and was not migrated"
            ));
        }
        for name in in_use(control).await? {
            if is_missing(&name) && !served.iter().any(|served| served.name == name) {
                say(format!(
                    "warning: organizations live in the database {name}, which neither MIGRATION_DATABASES nor DATABASES names"
                ));
            }
        }
        Ok(())
    }
}

/// A database of organizations' own, as it is migrated.
struct DedicatedDatabase {
    name: String,
    connect: PgConnectOptions,
    password: Logins,
}

/// The passwords of the two roles that servers log in as.
struct Logins {
    app: Option<String>,
    system: Option<String>,
}

impl Logins {
    fn passwords(&self) -> Passwords<'_> {
        Passwords { app: self.app.as_deref(), system: self.system.as_deref() }
    }
}

fn derived(app_password: Option<&str>) -> Option<String> {
    app_password.map(|password| system_password(password.as_bytes()))
}

/// The password of the app role, which must be the one that servers log in as.
fn app_password(variable: &str, address: &str) -> Result<Option<String>, Failure> {
    password_of(variable, address, migration::APP_ROLE)
}

fn password_of(variable: &str, address: &str, role: &str) -> Result<Option<String>, Failure> {
    let login = parse_database_url(variable, address).map_err(Failure::new)?;
    if login.get_username() != role {
        return Err(Failure::new(format!(
            "{variable} logs in as {}: servers must use the role {role}",
            login.get_username()
        )));
    }
    let url = url::Url::parse(address).map_err(Failure::new)?;
    let password = url.password().map(|password| {
        percent_encoding::percent_decode_str(password).decode_utf8().map(Into::into)
    });
    password
        .transpose()
        .map_err(|_| Failure::new(format!("the password in {variable} is not UTF-8")))
}

/// Refuses a database that is another one, before anything is changed there.
async fn check_unused(
    control: &mut PgConnection,
    database: &DedicatedDatabase,
) -> Result<(), Failure> {
    let mut there = PgConnection::connect_with(&database.connect).await?;
    if identity(&mut there).await? == identity(control).await? {
        return Err(Failure::new("it is the control database"));
    }
    let is_empty: bool = sqlx::query_scalar("SELECT to_regclass('app.organizations') IS NULL")
        .fetch_one(&mut there)
        .await?;
    if is_empty {
        return Ok(());
    }
    let mut there = connect_as_owner(&database.connect).await?;
    let known = known_as(&mut there).await?;
    let in_use = "SELECT EXISTS (SELECT FROM app.organizations)";
    match known {
        Some(known) if known == database.name => Ok(()),
        Some(known) => Err(Failure::new(dedicated::Error::OtherName(known))),
        None if sqlx::query_scalar(in_use).fetch_one(&mut there).await? => {
            Err(Failure::new(dedicated::Error::Control))
        }
        None => Ok(()),
    }
}

/// Tells one database from another.
async fn identity(connection: &mut PgConnection) -> Result<(i64, String), sqlx::Error> {
    sqlx::query_as("SELECT system_identifier, current_database()::text FROM pg_control_system()")
        .fetch_one(connection)
        .await
}

/// Tells what was done in the control database, or in the one of this name; answers what was not.
fn tell(report: &Report, database: Option<&str>) -> Vec<String> {
    let Report { applied, functions, schemas } = report;
    let there = database.map(|name| format!(" in the database {name}")).unwrap_or_default();
    for step in applied {
        say(format!("applied {step}{there}"));
    }
    if !functions.is_empty() {
        say(format!("updated the functions {}{there}", functions.join(", ")));
    }
    if schemas.migrated > 0 {
        say(format!("migrated {} schemas of organizations{there}", schemas.migrated));
    }
    for organization in &schemas.given_up {
        say(format!(
            "gave up the interrupted move of organization {organization}{there}: begin it again"
        ));
    }
    for (schema, reason) in &schemas.failed {
        say(format!("failed: {schema}{there}: {reason}"));
    }
    if applied.is_empty() && functions.is_empty() && *schemas == Schemas::default() {
        let name = database.map(|name| format!(" {name}")).unwrap_or_default();
        say(format!("The database{name} is up to date."));
    }
    if schemas.failed.is_empty() {
        return Vec::new();
    }
    vec![format!("{} schemas of organizations{there} were not migrated", schemas.failed.len())]
}
