//! Dedicated schemas through migrations: at whichever step they were created, they become like
//! those that are created today.

mod catalogue;
mod migrating;
mod new_table;
mod thousand;

use migration::{
    Change, Passwords, Report, Run, STEPS, Step, migrate_with,
    placement::{SCHEMA_VERSION, create, schema_of},
};
use uuid::Uuid;

use crate::support::database::Database;

/// A step that changes tables of organizations, after all that exist.
const LATER: Step = Step {
    name: "core/9000_archive",
    changes: || {
        vec![Change::each(
            "ALTER TABLE projects ADD COLUMN later_archived_at timestamptz;
             CREATE INDEX projects_later_archived ON projects (organization_id, later_archived_at)",
        )]
    },
};

/// A migration to a later version.
pub fn to_later() -> Run {
    Run { steps: [&STEPS[..], &[LATER]].concat(), ..Run::default() }
}

/// The version of a dedicated schema after it.
fn later_version() -> String {
    let others = SCHEMA_VERSION.split(' ').filter(|step| !step.starts_with("core/"));
    others.chain([LATER.name]).collect::<Vec<_>>().join(" ")
}

async fn migrate_to_later(database: &Database) -> Report {
    migrate_with(database.admin(), Passwords::default(), &to_later()).await.unwrap()
}

/// A database of the version that had this many steps.
async fn of_step(steps: usize) -> Database {
    let database = Database::empty().await;
    let run = Run { steps: STEPS[..steps].to_vec(), ..Run::default() };
    migrate_with(database.admin(), Passwords::default(), &run).await.unwrap();
    database
}

/// Gives each organization a dedicated schema at the database's current step, and moves it there.
pub async fn create_schemas(database: &Database, organizations: impl Iterator<Item = Uuid>) {
    let mut connection = database.connect_admin().await;
    for organization in organizations {
        let transaction = connection.begin().await.unwrap();
        transaction
            .batch("SET LOCAL ROLE tenantry_owner; SET LOCAL search_path = pg_catalog")
            .await
            .unwrap();
        let version = create(&transaction, organization).await.unwrap();
        transaction.batch("RESET ROLE").await.unwrap();
        transaction
            .execute(
                "INSERT INTO app.placements (organization_id, placement, version) VALUES ($1, 'schema', $2)",
                &[&organization, &version],
            )
            .await
        .unwrap();
        transaction.commit().await.unwrap();
    }
}

pub fn organization(number: u128) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 + number)
}

pub fn schema(number: u128) -> String {
    schema_of(organization(number))
}
