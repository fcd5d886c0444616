//! Connections of maintenance commands. They log in as the owner of the tables, to whom row-level
//! security applies as well.

use pg::{Client, ConnectOptions};

use super::{Failure, say};
use crate::{
    config::{NamedDatabase, databases, parse_database_url, required},
    tenancy::transport_finding,
};

/// Access to the databases as their owner.
#[derive(Debug, clap::Args)]
pub(super) struct Owner {
    /// The database as a role that may act as tenantry_owner.
    #[arg(long, env, hide_env_values = true, global = true)]
    migration_database_url: Option<String>,

    /// Dedicated databases as NAME=URL, separated by white space, each as a role that may act as
    /// tenantry_owner.
    #[arg(long, env, hide_env_values = true, global = true)]
    migration_databases: Option<String>,
}

impl Owner {
    /// Connects to the control database as the owner of every table.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let remedy = "Set it to the database as a role that may act as tenantry_owner.";
        let url =
            required("MIGRATION_DATABASE_URL", self.migration_database_url.as_deref(), remedy)?;
        let options = parse_database_url("MIGRATION_DATABASE_URL", url)?;
        warn_of_transport("MIGRATION_DATABASE_URL", &options);
        let connection = connect_as_owner(&options).await?;
        check_control(&connection).await?;
        Ok(connection)
    }

    /// The configured dedicated databases.
    pub(super) fn databases(&self) -> Result<Vec<NamedDatabase>, Failure> {
        let text = self.migration_databases.as_deref().unwrap_or_default();
        Ok(databases("MIGRATION_DATABASES", text)?)
    }

    /// Connects to one of them as the owner of every table.
    pub(super) async fn dedicated(&self, name: &str) -> Result<Client, Failure> {
        let database =
            self.databases()?.into_iter().find(|database| database.name == name).ok_or_else(
                || Failure::new(format!("the database {name} is not in MIGRATION_DATABASES")),
            )?;
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(format!("the database {name}: {error}"));
        warn_of_transport(&format!("MIGRATION_DATABASES: {name}"), &database.connect);
        let connection =
            connect_as_owner(&database.connect).await.map_err(|error| failed(&error))?;
        match known_as(&connection).await.map_err(|error| failed(&error))? {
            Some(known) if known == name => Ok(connection),
            Some(known) => Err(failed(&format!("its name is {known}"))),
            None => Err(failed(&"it is not prepared: run `tenantry migrate`")),
        }
    }

    /// Runs `act` in the control database, then in each dedicated database. The text that `act`
    /// receives completes its messages: it names the dedicated database. A failure in the control
    /// database ends the command.
    pub(super) async fn in_all(
        &self,
        mut act: impl AsyncFnMut(&mut Client, &str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut control = self.connect().await?;
        act(&mut control, "").await?;
        let failed = self
            .in_each(async |name, connection| {
                act(connection, &format!(" in the database {name}")).await
            })
            .await?;
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the command failed in the databases {}. Fix the error above and run it again.",
            failed.join(", ")
        )))
    }

    /// Runs `act` in each dedicated database. A failure is printed, and the others continue.
    /// Returns the names of the databases that failed.
    pub(super) async fn in_each(
        &self,
        mut act: impl AsyncFnMut(&str, &mut Client) -> Result<(), Failure>,
    ) -> Result<Vec<String>, Failure> {
        let mut failed = Vec::new();
        for NamedDatabase { name, .. } in self.databases()? {
            let outcome = match self.dedicated(&name).await {
                Ok(mut connection) => act(&name, &mut connection)
                    .await
                    .map_err(|error| Failure::new(format!("the database {name}: {error}"))),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                say(format!("failed: {error}"));
                failed.push(name);
            }
        }
        Ok(failed)
    }
}

/// Warns on standard error if the network can read what a command sends.
pub(super) fn warn_of_transport(setting: &str, connect: &ConnectOptions) {
    if let Some(finding) = transport_finding(setting, connect) {
        eprintln!("{finding}");
    }
}

/// Connects as the owner of every table.
pub(super) async fn connect_as_owner(options: &ConnectOptions) -> Result<Client, Failure> {
    let connection = Client::connect_exclusively(options).await?;
    connection.batch(migration::SESSION).await?;
    connection.batch("SET ROLE tenantry_owner; SET search_path = pg_catalog, pg_temp").await?;
    Ok(connection)
}

/// Refuses a dedicated database, in which a command would see only a part of the organizations.
pub(super) async fn check_control(connection: &Client) -> Result<(), Failure> {
    match known_as(connection).await? {
        None => Ok(()),
        Some(name) => Err(Failure::new(format!(
            "MIGRATION_DATABASE_URL points to the dedicated database {name}. Set it to the control database."
        ))),
    }
}

/// The dedicated databases that, according to the control database, hold an organization or a
/// stale copy.
pub(super) async fn in_use(control: &Client) -> pg::Result<Vec<String>> {
    let sql = "SELECT DISTINCT substring(place FROM 10) AS name
         FROM app.placements p, unnest(ARRAY[p.placement, p.moving_to, p.old_placement]) place
         WHERE place LIKE 'database:%' ORDER BY name";
    control.query(sql, &[]).await
}

/// Returns the name of a dedicated database, or `None` for a control database of any version.
pub(super) async fn known_as(connection: &Client) -> pg::Result<Option<String>> {
    let may_have_name: bool =
        connection.query_one("SELECT to_regclass('app.database') IS NOT NULL", &[]).await?;
    if !may_have_name {
        return Ok(None);
    }
    connection.query_one("SELECT app.database_name()", &[]).await
}
