//! Migrations of many dedicated schemas: a failure affects one schema only, and another run
//! continues.

use std::time::Duration;

use migration::{Passwords, Run, migrate, migrate_with, placement::SCHEMA_VERSION};
use sqlx::Executor;

use super::{FIRST, create_schemas, of_step, organization, schema, up_to};
use crate::support::{
    database::Database,
    process::{self, Output, tenantry},
};

/// Organizations in schemas of the first step that has any.
async fn database_with_schemas(count: u128) -> Database {
    let database = of_step(up_to(FIRST)).await;
    create_schemas(&database, (1..=count).map(organization)).await;
    database
}

async fn behind(database: &Database) -> i64 {
    let sql =
        "SELECT count(*) FROM app.placements WHERE home = 'schema' AND version IS DISTINCT FROM";
    database.value(&format!("{sql} '{SCHEMA_VERSION}'")).await
}

async fn has_step(database: &Database, number: u128) -> bool {
    let schema = schema(number);
    database
        .value(&format!(
            "SELECT count(*) = 8 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
             WHERE c.relnamespace = '{schema}'::regnamespace AND t.tgname = 'note_change'"
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_schema_is_reported_and_retried() {
    let database = database_with_schemas(9).await;
    // These conflict with the step: a table of the fourth schema is missing, and the sixth schema
    // as a whole.
    let (fourth, sixth) = (schema(4), schema(6));
    database
        .execute(&format!(
            "ALTER TABLE {fourth}.usage RENAME TO used; ALTER SCHEMA {sixth} RENAME TO gone"
        ))
        .await;
    let output = command(&database).await;
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("migrated 7 dedicated schemas\n"), "{}", output.stdout);
    let failed = format!("failed: {fourth}: relation \"{fourth}.usage\" does not exist\n");
    assert!(output.stdout.contains(&failed), "{}", output.stdout);
    assert!(output.stdout.contains(&format!("failed: {sixth}: schema")), "{}", output.stdout);
    assert!(
        output.stderr.contains("2 dedicated schemas could not be migrated"),
        "{}",
        output.stderr
    );
    assert!(!has_step(&database, 4).await, "a failed schema has nothing of the step");
    assert_eq!(behind(&database).await, 2);
    database
        .execute(&format!(
            "ALTER TABLE {fourth}.used RENAME TO usage; ALTER SCHEMA gone RENAME TO {sixth}"
        ))
        .await;
    let output = command(&database).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "migrated 2 dedicated schemas\n"));
    for number in 1..=9 {
        assert!(has_step(&database, number).await, "{number}");
    }
    assert_eq!(command(&database).await.stdout, "The database is up to date.\n");
}

#[tokio::test]
async fn a_run_after_a_killed_one_continues_with_the_next_schema() {
    let database = database_with_schemas(30).await;
    // The last schema is locked, so that the run is still in progress when it is killed.
    let mut admin = database.connect_admin().await;
    let lock = format!("BEGIN; LOCK TABLE {}.projects IN ROW EXCLUSIVE MODE", schema(30));
    admin.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let mut child = tenantry()
        .arg("migrate")
        .env("MIGRATION_DATABASE_URL", database.url("postgres"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    let sql = "SELECT to_regproc('app.schema_problems') IS NOT NULL";
    while !(database.value::<bool>(sql).await && behind(&database).await < 30) {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not begin");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = behind(&database).await;
    assert!((1..30).contains(&left), "{left}");
    admin.execute("ROLLBACK").await.unwrap();
    let report = migrate(database.admin(), None).await.unwrap();
    assert_eq!((report.schemas.failed, behind(&database).await), (vec![], 0));
    for number in 1..=30 {
        assert!(has_step(&database, number).await, "{number}");
    }
}

#[tokio::test]
async fn a_locked_schema_is_waited_for_while_the_others_continue() {
    let database = database_with_schemas(3).await;
    let mut admin = database.connect_admin().await;
    let lock = format!("BEGIN; LOCK TABLE {}.projects IN ROW EXCLUSIVE MODE", schema(1));
    admin.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(behind(&database).await, 1, "the others are done");
        admin.execute("ROLLBACK").await.unwrap();
    };
    // Two at a time: a run does not end at the first failure.
    let run = Run { concurrency: 2, ..Run::default() };
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
            "UPDATE app.placements SET home = 'shared', moving_to = 'schema' WHERE organization_id = '{filling}';
             UPDATE app.placements SET moving_to = 'shared' WHERE organization_id = '{leaving}';
             UPDATE app.placements SET home = 'shared', old_home = 'schema', keep_old_until = now() WHERE organization_id = '{kept}'"
        ))
        .await;
    let report = migrate(database.admin(), None).await.unwrap();
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
    assert!(migrate(database.admin(), None).await.unwrap().schemas.given_up.is_empty());
}

#[tokio::test]
async fn a_plain_owner_can_migrate_schemas() {
    let database = Database::empty().await;
    let (name, login) = (&database.name, format!("migrator_{}", database.name));
    database
        .execute(&format!(
            "CREATE ROLE {login} LOGIN CREATEROLE; ALTER DATABASE {name} OWNER TO {login}"
        ))
        .await;
    let options = database.admin().username(&login);
    let steps = u32::try_from(up_to(FIRST)).unwrap();
    migration::migrate_steps(options.clone(), None, Some(steps)).await.unwrap();
    create_schemas(&database, (1..=2).map(organization)).await;
    let report = migrate(options, None).await.unwrap();
    assert_eq!((report.schemas.migrated, report.schemas.failed), (2, vec![]));
}

#[tokio::test]
async fn no_step_is_applied_while_an_organization_moves() {
    let database = database_with_schemas(1).await;
    let mut mover = database.connect_admin().await;
    migration::placement::keep_steps(&mut mover).await.unwrap();
    let migrating = tokio::spawn(migrate_all(database.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!migrating.is_finished());
    drop(mover);
    migrating.await.unwrap();
    assert_eq!(behind(&database).await, 0);
}

async fn migrate_all(database: Database) {
    migrate(database.admin(), None).await.unwrap();
}
