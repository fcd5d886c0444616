//! Moves that come to their end: nothing is lost, and there is one home.

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;

use super::{
    ACME, SCHEMA, command, done, home, log_entries, prepared, refused, start, until, verified,
    writers::Writers,
};
use crate::support::{database::Database, process::run};

const ROWS_OF_SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org_%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_moves_there_and_back_while_its_people_work() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    // Rows that lie in partitions are noted like others.
    done(&command(database, &["audit", "partition"]).await);
    log_entries(database, 30_000).await;
    let writers = Writers::start(&app, 4);
    let globex = app.person("globex-owner");
    for (to, arguments) in [
        ("schema", &[][..]),
        ("shared", &["--drop-source"][..]),
        ("schema", &["--keep-source-days", "0"]),
    ] {
        let before = writers.writes();
        let output =
            command(database, &[&["tenant", "move", "acme", "--to", to], arguments].concat()).await;
        assert!(done(&output).contains("writers paused for at most"), "{}", output.stdout);
        assert_eq!(output.stdout.matches(" same").count(), 8, "{}", output.stdout);
        assert_eq!(home(database).await, to);
        let schemas: i64 = database.value(ROWS_OF_SCHEMAS).await;
        assert_eq!(schemas, i64::from(to == "schema"));
        while writers.writes() < before + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        globex.data("{ organization { projects { nodes { name } } } }").await;
    }
    let book = writers.stop().await;
    book.check(database).await;
    verified(database).await;
    let moved: Vec<String> = {
        let mut connection = database.connect_admin().await;
        let sql = format!(
            "SELECT metadata->>'from' FROM {SCHEMA}.audit_logs WHERE action = 'organization.moved' AND actor_name = 'tenantry tenant move' ORDER BY created_at"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
    };
    assert_eq!(moved, ["shared", "schema", "shared"]);
    // What was left behind goes, and what the directory shows stays.
    let old: i64 = database
        .value(&format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'"))
        .await;
    assert!(old >= 30_000);
    assert!(
        done(&command(database, &["tenant", "prune"]).await).contains("deleted 1 stale copies")
    );
    for (table, left) in
        [("audit.audit_logs", false), ("app.projects", false), ("auth.organization_members", true)]
    {
        let count: i64 = database
            .value(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
            .await;
        assert_eq!(count > 0, left, "{table}");
    }
    verified(database).await;
    let data = app.person("acme-owner").data("{ organization { auditLogs(first: 1, filter: { action: \"organization.moved\" }) { nodes { actorName metadata } } } }").await;
    let entry = &data["organization"]["auditLogs"]["nodes"][0];
    assert_eq!(entry["actorName"], "tenantry tenant move");
    assert_eq!(
        (&entry["metadata"]["from"], &entry["metadata"]["to"]),
        (&json!("shared"), &json!("schema"))
    );
    assert!(entry["metadata"]["rows"].as_i64().unwrap() > 30_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_is_kept_until_it_is_dropped() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    done(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    for arguments in [
        &["tenant", "list"][..],
        &["tenant", "show", ACME],
        &["tenant", "move", "acme", "--to", "schema"],
    ] {
        let output = command(database, arguments).await;
        assert!(
            done(&output).contains("stale copy in the shared tables, kept until"),
            "{}",
            output.stdout
        );
    }
    let listed = command(database, &["tenant", "list"]).await;
    assert_eq!(done(&listed).lines().count(), 2);
    assert!(
        listed.stdout.lines().any(|line| line.starts_with("globex") && line.ends_with("shared")),
        "{}",
        listed.stdout
    );
    assert!(done(&command(database, &["tenant", "prune"]).await).contains("deleted 0"));
    let dropped =
        command(database, &["tenant", "move", "acme", "--to", "schema", "--drop-source"]).await;
    assert!(done(&dropped).contains("deleted the stale copy"), "{}", dropped.stdout);
    let left: i64 = database
        .value(&format!("SELECT count(*) FROM app.projects WHERE organization_id = '{ACME}'"))
        .await;
    assert_eq!(left, 0);
    let listed = command(database, &["tenant", "list"]).await;
    assert!(!done(&listed).contains("stale copy"));
    // Back, with what is left of the schema until then.
    done(&command(database, &["tenant", "move", "acme", "--to", "shared"]).await);
    let shown = command(database, &["tenant", "show", "acme"]).await;
    assert!(
        done(&shown).contains("lives in the shared tables\nstale copy in a dedicated schema"),
        "{}",
        shown.stdout
    );
    // And there again, though the schema is as it was left.
    app.person("acme-owner")
        .data("mutation { createProject(input: { name: \"later\" }) { project { id } } }")
        .await;
    done(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let data = app
        .person("acme-owner")
        .data("{ organization { projects(first: 1) { nodes { name } } } }")
        .await;
    assert_eq!(data["organization"]["projects"]["nodes"][0]["name"], "later");
    verified(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_moves_at_a_time() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    // Somebody who writes in acme keeps the first one waiting.
    let mut writer = database.connect_app().await;
    writer.execute("BEGIN").await.unwrap();
    let open = database.opening("acme-owner", "acme").await;
    writer.execute(sqlx::AssertSqlSafe(open)).await.unwrap();
    let mut first = prepared(database, &["tenant", "move", "acme", "--to", "schema"]);
    let first = tokio::task::spawn_blocking(move || run(&mut first));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until(database, waiting).await;
    for arguments in [
        &["tenant", "move", "acme", "--to", "schema"][..],
        &["tenant", "move", "acme", "--to", "shared"],
    ] {
        refused(&command(database, arguments).await, "another command is moving acme");
    }
    // Whoever comes after is not kept waiting for long.
    let begun = std::time::Instant::now();
    app.person("acme-owner")
        .data("mutation { createProject(input: { name: \"x\" }) { project { id } } }")
        .await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    writer.execute("COMMIT").await.unwrap();
    let first = first.await.unwrap();
    done(&first);
    assert!(first.stderr.contains("waiting for other transactions"), "{}", first.stderr);
    assert_eq!(home(database).await, "schema");
    verified(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_is_told_in_a_line() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    for action in ["show", "verify", "export"] {
        let arguments = ["tenant", action, "nowhere", "/dev/null"];
        let output = command(database, &arguments[..if action == "export" { 4 } else { 3 }]).await;
        refused(&output, "there is no organization nowhere");
    }
    refused(
        &command(database, &["tenant", "move", "nowhere", "--to", "schema"]).await,
        "there is no organization nowhere",
    );
    // A retired slug leads there.
    app.person("acme-owner").data("mutation { updateOrganization(input: { slug: \"acme-inc\" }) { organization { id } } }").await;
    assert!(
        done(&command(database, &["tenant", "show", "acme"]).await)
            .starts_with(&format!("acme-inc ({ACME})"))
    );
    done(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    database.execute("UPDATE app.placements SET version = 'm0014_move'").await;
    let behind = command(database, &["tenant", "move", "acme", "--to", "shared"]).await;
    refused(&behind, "Run `tenantry migrate` first");
    assert!(done(&command(database, &["tenant", "list"]).await).contains("lacks migrations"));
    database.execute("DELETE FROM migration.seaql_migrations WHERE version = 'm0014_move'").await;
    refused(
        &command(database, &["tenant", "list"]).await,
        "the database lacks 1 migrations. Run `tenantry migrate`.",
    );
    let unset = Database::empty().await;
    refused(&command(&unset, &["tenant", "list"]).await, "the database is not migrated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_only_acts_as_the_owner_moves_organizations() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    database
        .execute("CREATE ROLE tenant_mover LOGIN NOSUPERUSER; GRANT tenantry_owner TO tenant_mover")
        .await;
    for (to, rows) in [("schema", 4_i64), ("shared", 4)] {
        let mut command =
            prepared(database, &["tenant", "move", "acme", "--to", to, "--drop-source"]);
        command.env("MIGRATION_DATABASE_URL", database.url("tenant_mover"));
        done(&tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap());
        let table = super::at_home(database, "app.projects").await;
        let count: i64 = database
            .value(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
            .await;
        assert_eq!(count, rows);
        verified(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_not_made_anew_under_a_reader_of_before() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    done(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    // A request that has opened there and read nothing yet.
    let mut reader = database.connect_app().await;
    let open = database.opening("acme-owner", "acme").await;
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.unwrap();
    reader.execute(sqlx::AssertSqlSafe(open)).await.unwrap();
    done(&command(database, &["tenant", "move", "acme", "--to", "shared"]).await);
    let mut again = prepared(database, &["tenant", "move", "acme", "--to", "schema"]);
    again.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut again = again.spawn().unwrap();
    until(database, "SELECT count(*) FROM app.placements WHERE moving_to = 'schema'").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(again.try_wait().unwrap().is_none(), "it has not waited");
    let seen = format!("SELECT count(*) FROM {SCHEMA}.projects");
    let seen: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(seen)).fetch_one(&mut reader).await.unwrap();
    assert!(seen > 0, "the reader's tables are others by now");
    reader.execute("COMMIT").await.unwrap();
    assert!(tokio::task::spawn_blocking(move || again.wait().unwrap()).await.unwrap().success());
    verified(database).await;
}
