//! Migrations of dedicated schemas: a schema created at any step is migrated to the same form as a
//! new one.

mod catalogue;
mod migrating;
mod thousand;

use migration::{
    Migrator, migrate_steps,
    placement::{create, schema_of},
};
use sea_orm_migration::MigratorTrait;
use sqlx::{Connection, Executor, types::Uuid};

use crate::support::database::Database;

/// The step since which dedicated schemas exist.
const FIRST: &str = "m0013_placement";

/// Returns the number of steps up to this one.
fn up_to(name: &str) -> usize {
    Migrator::migrations().iter().position(|step| step.name() == name).unwrap() + 1
}

/// A database at an earlier step.
async fn of_step(steps: usize) -> Database {
    let database = Database::empty().await;
    migrate_steps(database.admin(), None, Some(u32::try_from(steps).unwrap())).await.unwrap();
    database
}

/// Gives each organization a dedicated schema at the database's current step, and moves it there.
pub async fn create_schemas(database: &Database, organizations: impl Iterator<Item = Uuid>) {
    let mut connection = database.connect_admin().await;
    for organization in organizations {
        let mut transaction = connection.begin().await.unwrap();
        transaction
            .execute("SET LOCAL ROLE tenantry_owner; SET LOCAL search_path = pg_catalog")
            .await
            .unwrap();
        let version = create(&mut transaction, organization).await.unwrap();
        transaction.execute("RESET ROLE").await.unwrap();
        sqlx::query(
            "INSERT INTO app.placements (organization_id, home, version) VALUES ($1, 'schema', $2)",
        )
        .bind(organization)
        .bind(version)
        .execute(&mut *transaction)
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
