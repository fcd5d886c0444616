//! `tenantry migrate`: migrates the control database, then each dedicated database. A failure in
//! one dedicated database does not stop the others.

use migration::{Passwords, Report, Schemas, dedicated};
use pg::{Client, ConnectOptions};

use super::{
    Failure, catalogue, counted,
    owner_connection::{check_control, connect_as_owner, in_use, known_as, warn_of_transport},
    runtime, say,
};
use crate::{
    config::{NamedDatabase, databases, parse_database_url, required},
    tenancy::system_password,
};

/// Create or update databases and their three roles. Safe to repeat and to run concurrently.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// The database as a role that may create roles: a superuser, or the owner of the database with
    /// CREATEROLE.
    #[arg(long, env, hide_env_values = true)]
    migration_database_url: Option<String>,

    /// The address that servers will use. Its password becomes the password of the role
    /// tenantry_app.
    #[arg(long, env, hide_env_values = true)]
    database_url: Option<String>,

    /// The address that servers will use for background work. Its password becomes the password of
    /// the role tenantry_system. When not set, that password is derived from DATABASE_URL.
    #[arg(long, env, hide_env_values = true)]
    system_database_url: Option<String>,

    /// Dedicated databases as NAME=URL, separated by white space, each as a role that may create
    /// roles.
    #[arg(long, env, hide_env_values = true)]
    migration_databases: Option<String>,

    /// The same databases as servers will use them. Their passwords become those of the role
    /// tenantry_app there.
    #[arg(long, env, hide_env_values = true)]
    databases: Option<String>,

    /// How many dedicated schemas are migrated at the same time, each over a separate connection.
    #[arg(long, value_name = "NUMBER", default_value_t = migration::CONCURRENCY)]
    concurrency: usize,
}

impl Migrate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remedy = "Set it to the database as a role that may create roles, \
                      for example postgres://postgres:PASSWORD@HOST/DATABASE.";
        let url =
            required("MIGRATION_DATABASE_URL", self.migration_database_url.as_deref(), remedy)?;
        let options = parse_database_url("MIGRATION_DATABASE_URL", url)?;
        warn_of_transport("MIGRATION_DATABASE_URL", &options);
        let mut logins = Logins::of("DATABASE_URL", self.database_url.as_deref())?;
        if let Some(url) = &self.system_database_url {
            let given = password_of("SYSTEM_DATABASE_URL", url, migration::SYSTEM_ROLE)?;
            logins.system = given.or(logins.system);
        }
        let there = self.dedicated()?;
        runtime()?.block_on(async {
            let report = self
                .migrate(&options, logins.passwords())
                .await
                .map_err(|error| Failure::new(format!("the database was not migrated: {error}")))?;
            let mut failed = report_run(&report, None);
            let mut control = connect_as_owner(&options).await?;
            check_control(&control).await?;
            let mut missing = 0;
            for database in &there {
                match self.prepare(&mut control, database).await {
                    Ok(report) => failed.extend(report_run(&report, Some(&database.name))),
                    Err(error) => {
                        say(format!("failed: the database {}: {error}", database.name));
                        missing += 1;
                    }
                }
            }
            self.warn(&control, &there).await?;
            if missing > 0 {
                failed.push(format!(
                    "{} could not be prepared",
                    counted(missing, "dedicated database")
                ));
            }
            if failed.is_empty() {
                return Ok(());
            }
            Err(Failure::new(format!(
                "{}. Fix the error above and run `tenantry migrate` again.",
                failed.join(", ")
            )))
        })
    }

    async fn migrate(
        &self,
        options: &ConnectOptions,
        passwords: Passwords<'_>,
    ) -> Result<Report, migration::Error> {
        let run = migration::Run {
            concurrency: self.concurrency,
            progress: |line| eprintln!("{line}"),
            ..migration::Run::default()
        };
        migration::migrate_with(options.clone(), passwords, &run).await
    }

    /// The configured dedicated databases, with the passwords that servers use there.
    fn dedicated(&self) -> Result<Vec<DedicatedDatabase>, Failure> {
        let read = |variable, text: &Option<String>| {
            databases(variable, text.as_deref().unwrap_or_default())
        };
        let served = read("DATABASES", &self.databases)?;
        read("MIGRATION_DATABASES", &self.migration_databases)?
            .into_iter()
            .map(|NamedDatabase { name, connect, .. }| {
                let login = served.iter().find(|database| database.name == name);
                let login = login.map(|database| database.url.as_str());
                let logins = Logins::of(&format!("DATABASES: {name}"), login)?;
                Ok(DedicatedDatabase { name, connect, logins })
            })
            .collect()
    }

    async fn prepare(
        &self,
        control: &mut Client,
        database: &DedicatedDatabase,
    ) -> Result<Report, Failure> {
        warn_of_transport(&format!("MIGRATION_DATABASES: {}", database.name), &database.connect);
        check_unused(control, database).await?;
        let report = self.migrate(&database.connect, database.logins.passwords()).await?;
        let mut there = connect_as_owner(&database.connect).await?;
        dedicated::dedicate(&mut there, &database.name).await?;
        if dedicated::copy_catalogue(control, &mut there).await? {
            say(format!("copied the plans to the database {}", database.name));
            catalogue::publish(control).await?;
        }
        Ok(report)
    }

    /// Warns of dedicated databases that are in use or will be, but were not migrated.
    async fn warn(&self, control: &Client, migrated: &[DedicatedDatabase]) -> Result<(), Failure> {
        let is_missing = |name: &str| !migrated.iter().any(|database| database.name == name);
        let served = databases("DATABASES", self.databases.as_deref().unwrap_or_default())?;
        for NamedDatabase { name, .. } in served.iter().filter(|served| is_missing(&served.name)) {
            say(format!(
                "warning: the database {name} of DATABASES is not in MIGRATION_DATABASES and was not migrated"
            ));
        }
        for name in in_use(control).await? {
            if is_missing(&name) && !served.iter().any(|served| served.name == name) {
                say(format!(
                    "warning: organizations live in the database {name}, which is in neither MIGRATION_DATABASES nor DATABASES"
                ));
            }
        }
        Ok(())
    }
}

/// A dedicated database to migrate.
struct DedicatedDatabase {
    name: String,
    connect: ConnectOptions,
    logins: Logins,
}

/// The passwords of the two roles that servers log in as.
struct Logins {
    app: Option<String>,
    system: Option<String>,
}

impl Logins {
    /// Those in the address of a server's login, which must be the app role. The password of
    /// background work is derived.
    fn of(variable: &str, address: Option<&str>) -> Result<Self, Failure> {
        let password = |address| password_of(variable, address, migration::APP_ROLE);
        let app = address.map(password).transpose()?.flatten();
        Ok(Self { system: app.as_deref().map(system_password), app })
    }

    fn passwords(&self) -> Passwords<'_> {
        Passwords { app: self.app.as_deref(), system: self.system.as_deref() }
    }
}

/// Returns the password in the address of a login, which must be this role.
fn password_of(variable: &str, address: &str, role: &str) -> Result<Option<String>, Failure> {
    let login = parse_database_url(variable, address)?;
    if login.user() != role {
        return Err(Failure::new(format!(
            "{variable} logs in as {}. Servers must use the role {role}.",
            login.user()
        )));
    }
    Ok(login.get("password").map(ToOwned::to_owned))
}

/// Refuses the control database and the database of another name, before anything changes there.
async fn check_unused(control: &Client, database: &DedicatedDatabase) -> Result<(), Failure> {
    let there = Client::connect(&database.connect).await?;
    if identity(&there).await? == identity(control).await? {
        return Err(Failure::new("this address points to the control database"));
    }
    let is_empty: bool =
        there.query_one("SELECT to_regclass('app.organizations') IS NULL", &[]).await?;
    if is_empty {
        return Ok(());
    }
    let there = connect_as_owner(&database.connect).await?;
    let known = known_as(&there).await?;
    let in_use = "SELECT EXISTS (SELECT FROM app.organizations)";
    match known {
        Some(known) if known == database.name => Ok(()),
        Some(known) => Err(Failure::new(dedicated::Error::OtherName(known))),
        None if there.query_one(in_use, &[]).await? => Err(Failure::new(dedicated::Error::Control)),
        None => Ok(()),
    }
}

/// Identifies a database among all servers.
async fn identity(connection: &Client) -> pg::Result<(i64, String)> {
    let sql = "SELECT system_identifier, current_database()::text FROM pg_control_system()";
    connection.query_one(sql, &[]).await
}

/// Prints what was done in the control database, or in the dedicated database `database`. Returns
/// what could not be done.
fn report_run(report: &Report, database: Option<&str>) -> Vec<String> {
    let Report { applied, functions, schemas } = report;
    let there = database.map(|name| format!(" in the database {name}")).unwrap_or_default();
    for step in applied {
        say(format!("applied {step}{there}"));
    }
    if !functions.is_empty() {
        say(format!("updated the functions {}{there}", functions.join(", ")));
    }
    if schemas.migrated > 0 {
        say(format!("migrated {}{there}", counted(schemas.migrated, "dedicated schema")));
    }
    for organization in &schemas.given_up {
        say(format!(
            "cancelled the interrupted move of organization {organization}{there}: start it again"
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
    let failed = counted(schemas.failed.len(), "dedicated schema");
    vec![format!("{failed}{there} could not be migrated")]
}
