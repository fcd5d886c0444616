//! Moves that complete: nothing is lost, and the organization has one placement.

use std::time::Duration;

use serde_json::json;

use super::{
    ACME, SCHEMA, assert_verified, command, failed, log_entries, placement, prepared, start,
    succeeded, wait_until, writers::Writers,
};
use crate::support::{
    database::{Database, tenant_tables},
    process::run,
};

const ROWS_OF_SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org_%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_can_work_while_their_organization_moves_there_and_back() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    // Rows in partitions are copied like others.
    succeeded(&command(database, &["audit", "partition"]).await);
    log_entries(database, 30_000).await;
    let writers = Writers::start(&app, 4);
    let globex = app.user("globex-owner");
    for (to, arguments) in [
        ("schema", &[][..]),
        ("shared", &["--drop-source"][..]),
        ("schema", &["--keep-source-days", "0"]),
    ] {
        let before = writers.writes();
        let output =
            command(database, &[&["tenant", "move", "acme", "--to", to], arguments].concat()).await;
        assert!(succeeded(&output).contains("writers paused for at most"), "{}", output.stdout);
        assert_eq!(
            output.stdout.matches(" same").count(),
            tenant_tables().len(),
            "{}",
            output.stdout
        );
        assert_eq!(placement(database).await, to);
        let schemas: i64 = database.value(ROWS_OF_SCHEMAS).await;
        assert_eq!(schemas, i64::from(to == "schema"));
        while writers.writes() < before + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        globex.data("{ organization { projects { nodes { name } } } }").await;
    }
    let write_log = writers.stop().await;
    write_log.check(database).await;
    assert_verified(database).await;
    let moved: Vec<String> = {
        let connection = database.connect_admin().await;
        let sql = format!(
            "SELECT metadata->>'from' FROM {SCHEMA}.audit_logs WHERE action = 'organization.moved' AND actor_name = 'tenantry tenant move' ORDER BY created_at"
        );
        connection.query(&sql, &[]).await.unwrap()
    };
    assert_eq!(moved, ["shared", "schema", "shared"]);
    // The old copy is deleted, except for the rows that the directory needs.
    let old: i64 = database
        .value(&format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'"))
        .await;
    assert!(old >= 30_000);
    assert!(
        succeeded(&command(database, &["tenant", "prune"]).await)
            .contains("stale copies deleted: 1")
    );
    for (table, left) in
        [("audit.audit_logs", false), ("app.projects", false), ("auth.organization_members", true)]
    {
        let count: i64 = database
            .value(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
            .await;
        assert_eq!(count > 0, left, "{table}");
    }
    assert_verified(database).await;
    let data = app.user("acme-owner").data("{ organization { auditLogs(first: 1, filter: { action: \"organization.moved\" }) { nodes { actorName metadata } } } }").await;
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
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    for arguments in [
        &["tenant", "list"][..],
        &["tenant", "show", ACME],
        &["tenant", "move", "acme", "--to", "schema"],
    ] {
        let output = command(database, arguments).await;
        assert!(
            succeeded(&output).contains("stale copy in the shared tables, kept until"),
            "{}",
            output.stdout
        );
    }
    let listed = command(database, &["tenant", "list"]).await;
    assert_eq!(succeeded(&listed).lines().count(), 2);
    assert!(
        listed.stdout.lines().any(|line| line.starts_with("globex") && line.ends_with("shared")),
        "{}",
        listed.stdout
    );
    assert!(succeeded(&command(database, &["tenant", "prune"]).await).contains("deleted: 0"));
    let dropped =
        command(database, &["tenant", "move", "acme", "--to", "schema", "--drop-source"]).await;
    assert!(succeeded(&dropped).contains("deleted the stale copy"), "{}", dropped.stdout);
    let left: i64 = database
        .value(&format!("SELECT count(*) FROM app.projects WHERE organization_id = '{ACME}'"))
        .await;
    assert_eq!(left, 0);
    let listed = command(database, &["tenant", "list"]).await;
    assert!(!succeeded(&listed).contains("stale copy"));
    // Back, while the old schema still exists.
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "shared"]).await);
    let shown = command(database, &["tenant", "show", "acme"]).await;
    assert!(
        succeeded(&shown).contains("lives in the shared tables\nstale copy in a dedicated schema"),
        "{}",
        shown.stdout
    );
    // And there again, although the schema exists as it was left.
    app.user("acme-owner")
        .data("mutation { createProject(input: { name: \"later\" }) { project { id } } }")
        .await;
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let data = app
        .user("acme-owner")
        .data("{ organization { projects(first: 1) { nodes { name } } } }")
        .await;
    assert_eq!(data["organization"]["projects"]["nodes"][0]["name"], "later");
    assert_verified(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_command_moves_an_organization_at_a_time() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    // An open transaction of a writer in acme blocks the first move.
    let writer = database.connect_app().await;
    writer.batch("BEGIN").await.unwrap();
    let open = database.opening("acme-owner", "acme").await;
    writer.batch(&open).await.unwrap();
    let mut first = prepared(database, &["tenant", "move", "acme", "--to", "schema"]);
    let first = tokio::task::spawn_blocking(move || run(&mut first));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until(database, waiting).await;
    for arguments in [
        &["tenant", "move", "acme", "--to", "schema"][..],
        &["tenant", "move", "acme", "--to", "shared"],
    ] {
        failed(&command(database, arguments).await, "another command is moving acme");
    }
    // The second move gives up soon.
    let started = std::time::Instant::now();
    app.user("acme-owner")
        .data("mutation { createProject(input: { name: \"x\" }) { project { id } } }")
        .await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    writer.batch("COMMIT").await.unwrap();
    let first = first.await.unwrap();
    succeeded(&first);
    assert!(first.stderr.contains("waiting for other transactions"), "{}", first.stderr);
    assert_eq!(placement(database).await, "schema");
    assert_verified(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_not_possible_is_rejected_with_one_line() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    for action in ["show", "verify", "export"] {
        let arguments = ["tenant", action, "nowhere", "/dev/null"];
        let output = command(database, &arguments[..if action == "export" { 4 } else { 3 }]).await;
        failed(&output, "there is no organization nowhere");
    }
    failed(
        &command(database, &["tenant", "move", "nowhere", "--to", "schema"]).await,
        "there is no organization nowhere",
    );
    // A retired slug names the organization as well.
    app.user("acme-owner").data("mutation { updateOrganization(input: { slug: \"acme-inc\" }) { organization { id } } }").await;
    assert!(
        succeeded(&command(database, &["tenant", "show", "acme"]).await)
            .starts_with(&format!("acme-inc ({ACME})"))
    );
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    database.execute("UPDATE app.placements SET version = 'core/0000_unknown'").await;
    let behind = command(database, &["tenant", "move", "acme", "--to", "shared"]).await;
    failed(&behind, "Run `tenantry migrate` first");
    assert!(succeeded(&command(database, &["tenant", "list"]).await).contains("lacks migrations"));
    database
        .execute("DELETE FROM migration.seaql_migrations WHERE version = 'app/0001_project'")
        .await;
    failed(
        &command(database, &["tenant", "list"]).await,
        "the database lacks 1 migration. Run `tenantry migrate`.",
    );
    let unset = Database::empty().await;
    failed(&command(&unset, &["tenant", "list"]).await, "the database is not migrated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_with_the_owner_s_rights_can_move_organizations() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    database
        .execute("CREATE ROLE tenant_mover LOGIN NOSUPERUSER; GRANT tenantry_owner TO tenant_mover")
        .await;
    for (to, rows) in [("schema", 4_i64), ("shared", 4)] {
        let mut command =
            prepared(database, &["tenant", "move", "acme", "--to", to, "--drop-source"]);
        command.env("MIGRATION_DATABASE_URL", database.url("tenant_mover"));
        succeeded(&tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap());
        let table = super::table_in_placement(database, "app.projects").await;
        let count: i64 = database
            .value(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
            .await;
        assert_eq!(count, rows);
        assert_verified(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_not_recreated_under_an_older_reader() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    // A request that has opened a session there and read nothing yet.
    let reader = database.connect_app().await;
    let open = database.opening("acme-owner", "acme").await;
    reader.batch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.unwrap();
    reader.batch(&open).await.unwrap();
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "shared"]).await);
    let mut again = prepared(database, &["tenant", "move", "acme", "--to", "schema"]);
    again.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut again = again.spawn().unwrap();
    wait_until(database, "SELECT count(*) FROM app.placements WHERE moving_to = 'schema'").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(again.try_wait().unwrap().is_none(), "it has not waited");
    let seen = format!("SELECT count(*) FROM {SCHEMA}.projects");
    let seen: i64 = reader.query_one(&seen, &[]).await.unwrap();
    assert!(seen > 0, "the tables were replaced under the reader");
    reader.batch("COMMIT").await.unwrap();
    assert!(tokio::task::spawn_blocking(move || again.wait().unwrap()).await.unwrap().success());
    assert_verified(database).await;
}
