//! Migrations of many dedicated schemas: a failure affects one schema only, and another run
//! continues.

use std::time::Duration;

use migration::{Passwords, Run, STEPS, Schemas, migrate, migrate_with};

use super::{
    create_schemas, later_version, migrate_to_later, of_step, organization, schema, to_later,
};
use crate::support::{
    database::Database,
    process::{self, Output, tenantry},
};

/// Organizations in dedicated schemas, before a later step.
async fn database_with_schemas(count: u128) -> Database {
    let database = of_step(STEPS.len()).await;
    create_schemas(&database, (1..=count).map(organization)).await;
    database
}

async fn behind(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM app.placements WHERE placement = 'schema' AND version IS DISTINCT FROM";
    database.value(&format!("{sql} '{}'", later_version())).await
}

async fn has_step(database: &Database, number: u128) -> bool {
    let schema = schema(number);
    database
        .value(&format!(
            "SELECT count(*) = 1 FROM pg_attribute
             WHERE attrelid = to_regclass('{schema}.projects') AND attname = 'later_archived_at'"
        ))
        .await
}

async fn command(database: &Database) -> Output {
    let url = database.url("postgres");
    let run = move || {
        process::run(
            tenantry().args(["migrate", "--concurrency", "3"]).env("MIGRATION_DATABASE_URL", url),
        )
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn what_fails_in_one_schema_is_reported_and_tried_again() {
    let database = database_with_schemas(9).await;
    // In the way of the step: one table of the fourth schema is missing, and the whole of the
    // sixth.
    let (fourth, sixth) = (schema(4), schema(6));
    database
        .execute(&format!(
            "ALTER TABLE {fourth}.projects RENAME TO gone; ALTER SCHEMA {sixth} RENAME TO gone"
        ))
        .await;
    let schemas = migrate_to_later(&database).await.schemas;
    assert_eq!(schemas.migrated, 7);
    let [(first, reason), (second, lost)] = &schemas.failed[..] else { panic!("{schemas:?}") };
    assert_eq!((first, second), (&fourth, &sixth));
    assert_eq!(*reason, "relation \"projects\" does not exist");
    assert_eq!(lost, reason);
    assert!(!has_step(&database, 4).await, "nothing of the step is left in what failed");
    assert_eq!(behind(&database).await, 2);
    database
        .execute(&format!(
            "ALTER TABLE {fourth}.gone RENAME TO projects; ALTER SCHEMA gone RENAME TO {sixth}"
        ))
        .await;
    let schemas = migrate_to_later(&database).await.schemas;
    assert_eq!((schemas.migrated, schemas.failed), (2, vec![]));
    for number in 1..=9 {
        assert!(has_step(&database, number).await, "{number}");
    }
    let report = migrate_to_later(&database).await;
    assert_eq!((report.applied.len(), report.schemas), (0, Schemas::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_reports_a_schema_that_it_cannot_migrate() {
    let database = database_with_schemas(2).await;
    let unknown = "UPDATE app.placements SET version = 'core/0000_unknown' WHERE organization_id =";
    database.execute(&format!("{unknown} '{}'", organization(2))).await;
    let output = command(&database).await;
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    let failed = format!("failed: {}: its version \"core/0000_unknown\" is unknown", schema(2));
    assert!(output.stdout.contains(&failed), "{}", output.stdout);
    let count = "1 dedicated schema could not be migrated";
    assert!(output.stderr.contains(count), "{}", output.stderr);
}

#[tokio::test]
async fn a_run_that_is_interrupted_continues_with_the_next() {
    let database = database_with_schemas(30).await;
    // The last one is busy, so that the run is under way when it is interrupted.
    let admin = database.connect_admin().await;
    let lock = format!("BEGIN; LOCK TABLE {}.projects IN ROW EXCLUSIVE MODE", schema(30));
    admin.batch(&lock).await.unwrap();
    let run = tokio::spawn({
        let database = database.clone();
        async move { migrate_to_later(&database).await }
    });
    let start = std::time::Instant::now();
    while behind(&database).await == 30 {
        assert!(start.elapsed() < Duration::from_mins(1), "it does not begin");
    }
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    let left = behind(&database).await;
    assert!((1..30).contains(&left), "{left}");
    admin.batch("ROLLBACK").await.unwrap();
    let report = migrate_to_later(&database).await;
    assert_eq!((report.schemas.failed, behind(&database).await), (vec![], 0));
    for number in 1..=30 {
        assert!(has_step(&database, number).await, "{number}");
    }
}

#[tokio::test]
async fn a_locked_schema_is_waited_for_while_the_others_continue() {
    let database = database_with_schemas(3).await;
    let admin = database.connect_admin().await;
    let lock = format!("BEGIN; LOCK TABLE {}.projects IN ROW EXCLUSIVE MODE", schema(1));
    admin.batch(&lock).await.unwrap();
    let release = async {
        while behind(&database).await > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.batch("ROLLBACK").await.unwrap();
    };
    // Two at a time: a run does not end at the first failure.
    let run = Run { concurrency: 2, ..to_later() };
    let (report, ()) =
        tokio::join!(migrate_with(database.admin(), Passwords::default(), &run), release);
    let schemas = report.unwrap().schemas;
    assert_eq!((schemas.migrated, schemas.failed), (3, vec![]));
}

#[tokio::test]
async fn an_interrupted_move_is_cancelled_and_an_old_copy_left_unchanged() {
    let database = database_with_schemas(4).await;
    let [filling, leaving, kept] = [organization(1), organization(2), organization(3)];
    database
        .execute(&format!(
            "UPDATE app.placements SET placement = 'shared', moving_to = 'schema' WHERE organization_id = '{filling}';
             UPDATE app.placements SET moving_to = 'shared' WHERE organization_id = '{leaving}';
             UPDATE app.placements SET placement = 'shared', old_placement = 'schema', keep_old_until = now() WHERE organization_id = '{kept}'"
        ))
        .await;
    let report = migrate_to_later(&database).await;
    assert_eq!(report.schemas.given_up, [filling, leaving]);
    assert_eq!((report.schemas.migrated, report.schemas.failed), (1, vec![]));
    let there: Vec<bool> = database
        .value("SELECT array_agg(to_regnamespace(app.placement_schema(organization_id)) IS NOT NULL ORDER BY organization_id) FROM app.placements")
        .await;
    assert_eq!(there, [false, true, true, true]);
    assert!(has_step(&database, 2).await && !has_step(&database, 3).await);
    let moving: i64 =
        database.value("SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
    assert_eq!(moving, 0);
    assert!(migrate_to_later(&database).await.schemas.given_up.is_empty());
}

#[tokio::test]
async fn a_plain_owner_can_migrate_schemas() {
    let database = Database::empty().await;
    let (name, login) = (&database.name, format!("migrator_{}", database.name));
    database
        .execute(&format!(
            "CREATE ROLE {login} LOGIN CREATEROLE; ALTER DATABASE {name} OWNER TO {login};
             GRANT tenantry_owner TO {login}"
        ))
        .await;
    let options = database.admin().with("user", login);
    migrate(options.clone(), None).await.unwrap();
    create_schemas(&database, (1..=2).map(organization)).await;
    let report = migrate_with(options, Passwords::default(), &to_later()).await.unwrap();
    assert_eq!((report.schemas.migrated, report.schemas.failed), (2, vec![]));
}

#[tokio::test]
async fn no_step_is_applied_while_an_organization_moves() {
    let database = database_with_schemas(1).await;
    let mover = database.connect_admin().await;
    migration::placement::keep_steps(&mover).await.unwrap();
    let migrating = tokio::spawn({
        let database = database.clone();
        async move { migrate_to_later(&database).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!migrating.is_finished());
    drop(mover);
    migrating.await.unwrap();
    assert_eq!(behind(&database).await, 0);
}
