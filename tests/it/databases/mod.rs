//! Organizations that live in a dedicated database.

mod failures;
mod fixture;
mod maintenance;
mod migrating;
mod moving;
mod routing;

use uuid::Uuid;

pub use crate::support::process::{failed, succeeded};
use crate::support::{
    database::{Database, tenant_tables},
    dedicated::DedicatedDatabase,
    placement::{ACME, all_are_shared},
    process::{Output, run, tenantry},
};

fn acme() -> Uuid {
    ACME.parse().unwrap()
}

/// Returns a test's database, and a dedicated one named `eu` in which acme lives. `None` where the
/// run places acme elsewhere.
pub async fn acme_in_eu() -> Option<(Database, DedicatedDatabase)> {
    if !all_are_shared() {
        return None;
    }
    let control = Database::create().await;
    let eu = control.dedicated("eu").await;
    control.move_to(acme(), &eu).await;
    Some((control, eu))
}

/// Returns the rows of an organization in each of its tables.
async fn rows(database: &Database, organization: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    for table in tenant_tables() {
        let sql = format!(
            "SELECT coalesce(array_agg(t::text ORDER BY t::text), '{{}}') FROM {} t WHERE {} = '{organization}'",
            table.name,
            table.owner_column()
        );
        all.push((&*table.name, database.exactly(&sql).await));
    }
    all
}

/// Runs the program as the superuser, who acts as the owner, with these dedicated databases.
pub async fn command(
    control: &Database,
    databases: &[&DedicatedDatabase],
    arguments: &[&str],
) -> Output {
    let setting = |role: &str| {
        let entries = databases.iter().map(|database| database.setting(role));
        entries.collect::<Vec<_>>().join(" ")
    };
    let mut command = tenantry();
    command
        .args(arguments)
        .env("DATABASE_URL", control.url("tenantry_app"))
        .env("SECRET_KEY", crate::tenant::SECRET_KEY)
        .env("DATABASES", setting("tenantry_app"))
        .env("MIGRATION_DATABASE_URL", control.url("postgres"))
        .env("MIGRATION_DATABASES", setting("postgres"));
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

/// Returns a dedicated database that does not exist.
fn missing(name: &str, like: &Database) -> DedicatedDatabase {
    DedicatedDatabase { name: name.to_owned(), database: like.named_elsewhere("nowhere") }
}
