//! Moves that complete.

use std::time::Duration;

use serde_json::json;

use super::{
    assert_verified, command, placements, rows_of_acme, run_move, serving_database, start,
};
use crate::{
    support::{
        Reply,
        database::tenant_tables,
        placement::{ACME, GLOBEX},
    },
    tenant::{failed, log_entries, succeeded, writers::Writers},
};

/// Values that a careless copy would change.
const STRANGE: &str = r#"
    INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, metadata, created_at, ip_address) VALUES
        ('00000000-0000-4000-8000-00000000000a', E'a "quoted", (b) \\ c\n', 'project.updated', 'project',
            '{"nothing": null, "number": 1.50, "text": "ü\\\"\u20ac"}', '2026-01-01 00:00:00.000001+00', '2001:db8::1'),
        ('00000000-0000-4000-8000-00000000000a', '', 'project.updated', 'project', 'null', 'infinity', NULL);
    INSERT INTO app.projects (organization_id, name, created_at) VALUES
        ('00000000-0000-4000-8000-00000000000a', E'tab\there, NULL', '1999-12-31 23:59:59.999999+00');
    INSERT INTO app.organization_slugs (slug, organization_id, retired_at) VALUES ('acme-before', '00000000-0000-4000-8000-00000000000a', now());
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_keeps_every_row() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (&app.database, &eu.database);
    database.execute(STRANGE).await;
    let before = rows_of_acme(database).await;
    let globex = super::rows(database, GLOBEX).await;
    let output = run_move(database, &eu, "database:eu").await;
    assert_eq!(output.stdout.matches(" same").count(), tenant_tables().len(), "{}", output.stdout);
    assert!(
        output.stdout.contains("acme now lives in the database eu, moved from the shared tables:"),
        "{}",
        output.stdout
    );
    assert_eq!(placements(database, &eu).await, ("database:eu 1".into(), "shared 1".into()));
    assert_eq!(rows_of_acme(there).await, before);
    assert_verified(database, &eu).await;
    let slugs = "SELECT array_agg(slug || (retired_at IS NULL) ORDER BY slug COLLATE \"C\") FROM app.organization_slugs WHERE organization_id = '00000000-0000-4000-8000-00000000000a'";
    let known: Vec<String> = there.exactly(slugs).await;
    assert_eq!(known, database.exactly::<Vec<String>>(slugs).await);
    assert_eq!(known, ["acmetrue", "acme-beforefalse"]);
    let users: i64 = there.exactly("SELECT count(*) FROM auth.users").await;
    assert_eq!(users, 4);

    let listed = command(database, &eu, &["tenant", "list"]).await;
    assert!(
        succeeded(&listed).contains("database:eu  stale copy in the shared tables"),
        "{}",
        listed.stdout
    );
    let shown = command(database, &eu, &["tenant", "show", "acme"]).await;
    assert!(succeeded(&shown).contains("lives in the database eu\n"), "{}", shown.stdout);
    assert!(
        shown.stdout.contains(&format!("{:<30} {:>10} rows", "app.projects", 5)),
        "{}",
        shown.stdout
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.jsonl");
    succeeded(&command(database, &eu, &["tenant", "export", "acme", file.to_str().unwrap()]).await);
    assert!(std::fs::read_to_string(&file).unwrap().contains("tab\\there, NULL"));
    app.user("acme-owner")
        .data("mutation { createProject(input: { name: \"in eu\" }) { project { id } } }")
        .await;
    app.user("acme-owner").data("mutation { updateOrganization(input: { name: \"Acme of Europe\" }) { organization { id } } }").await;

    let before = rows_of_acme(there).await;
    let output = run_move(database, &eu, "shared").await;
    assert!(
        output.stdout.contains("acme now lives in the shared tables, moved from the database eu:"),
        "{}",
        output.stdout
    );
    assert_eq!(placements(database, &eu).await, ("shared 2".into(), "remote 2".into()));
    assert_eq!(rows_of_acme(database).await, before);
    assert_eq!(super::rows(database, GLOBEX).await, globex);
    assert_verified(database, &eu).await;
    let moved: Vec<String> = database
        .exactly(&format!(
            "SELECT array_agg(concat_ws(' ', metadata->>'from', metadata->>'to', (metadata->>'rows')::int > 10) ORDER BY created_at)
             FROM audit.audit_logs WHERE organization_id = '{ACME}' AND actor_name = 'tenantry tenant move'"
        ))
        .await;
    assert_eq!(moved, ["shared database:eu t", "database:eu shared t"]);
    // And there again, although the old copy still exists.
    run_move(database, &eu, "database:eu").await;
    assert_verified(database, &eu).await;
    assert_eq!(placements(database, &eu).await, ("database:eu 3".into(), "shared 3".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_can_work_while_their_organization_moves_to_a_database_and_back() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 30_000).await;
    let writers = Writers::start(&app, 4);
    let globex = app.user("globex-owner");
    for (to, arguments) in [
        ("database:eu", &[][..]),
        ("shared", &["--drop-source"][..]),
        ("database:eu", &["--drop-source"]),
        ("shared", &["--keep-source-days", "0"]),
    ] {
        let before = writers.writes();
        let arguments = [&["tenant", "move", "acme", "--to", to], arguments].concat();
        let output = command(database, &eu, &arguments).await;
        assert!(succeeded(&output).contains("writers paused for at most"), "{}", output.stdout);
        eprintln!("{}", output.stdout);
        assert_eq!(
            output.stdout.matches(" same").count(),
            tenant_tables().len(),
            "{}",
            output.stdout
        );
        while writers.writes() < before + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        succeeded(&command(database, &eu, &["tenant", "verify", "acme"]).await);
        globex.data("{ organization { projects { nodes { name } } } }").await;
    }
    let write_log = writers.stop().await;
    eprintln!("{} writes, the slowest took {:?}", write_log.writes, write_log.slowest);
    write_log.check(&serving_database(database, &eu).await).await;
    assert_verified(database, &eu).await;
    assert!(
        succeeded(&command(database, &eu, &["tenant", "prune"]).await)
            .contains("stale copies deleted: 1")
    );
    for (table, left) in super::rows(&eu.database, ACME).await {
        assert!(left.is_empty(), "{table}");
    }
    for table in ["app.placements", "app.organization_slugs", "app.directory_changes"] {
        let left: i64 = eu.database.exactly(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 0, "{table}");
    }
    assert_verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_repeat_what_it_did_before_the_move() {
    let Some((app, eu)) = start().await else { return };
    let owner = app.user("acme-owner");
    let mut seen = Vec::new();
    for to in ["database:eu", "shared"] {
        let body = json!({ "query": format!("mutation {{ createProject(input: {{ name: \"once {to}\" }}) {{ project {{ id }} }} }}") });
        let ask = || Reply::of(owner.post().header("idempotency-key", to).json(&body));
        let first = ask().await.data();
        run_move(&app.database, &eu, to).await;
        let again = ask().await;
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(again.data(), first);
        seen.push(first);
    }
    assert_ne!(seen[0], seen[1]);
    let once: i64 =
        app.database.exactly("SELECT count(*) FROM app.projects WHERE name LIKE 'once %'").await;
    assert_eq!(once, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_move_copies_the_latest_state_of_its_members() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    run_move(database, &eu, "database:eu").await;
    run_move(database, &eu, "shared").await;
    // The copies of the users were not updated.
    database.execute("UPDATE auth.users SET name = 'Olivia Renamed' WHERE name = 'Olivia'; UPDATE auth.identities SET email = 'new@example.com' WHERE subject = 'acme-member'").await;
    run_move(database, &eu, "database:eu").await;
    let name: i64 =
        eu.database.exactly("SELECT count(*) FROM auth.users WHERE name = 'Olivia Renamed'").await;
    let email: i64 = eu
        .database
        .exactly("SELECT count(*) FROM auth.identities WHERE email = 'new@example.com'")
        .await;
    assert_eq!((name, email), (1, 1));
    assert_verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_moves_from_a_schema_to_a_database() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    let before = rows_of_acme(database).await;
    run_move(database, &eu, "schema").await;
    let refusal = command(database, &eu, &["tenant", "move", "acme", "--to", "database:eu"]).await;
    failed(
        &refusal,
        "acme has a stale copy in the shared tables. Delete it first, with --to schema --drop-source",
    );
    succeeded(
        &command(database, &eu, &["tenant", "move", "acme", "--to", "schema", "--drop-source"])
            .await,
    );
    run_move(database, &eu, "database:eu").await;
    assert_eq!(rows_of_acme(&eu.database).await, before);
    assert_verified(database, &eu).await;
    let shown = command(database, &eu, &["tenant", "show", "acme"]).await;
    assert!(succeeded(&shown).contains("stale copy in a dedicated schema"), "{}", shown.stdout);
    let refusal = command(database, &eu, &["tenant", "move", "acme", "--to", "shared"]).await;
    failed(
        &refusal,
        "acme has a stale copy in a dedicated schema. Delete it first, with --to database:eu --drop-source",
    );
    succeeded(
        &command(
            database,
            &eu,
            &["tenant", "move", "acme", "--to", "database:eu", "--drop-source"],
        )
        .await,
    );
    let schemas: i64 =
        database.exactly("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org_%'").await;
    assert_eq!(schemas, 0);
    run_move(database, &eu, "shared").await;
    assert_eq!(rows_of_acme(database).await, before);
    assert_verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_not_possible_is_rejected_with_one_line() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    let to = async |placement: &str| {
        command(database, &eu, &["tenant", "move", "acme", "--to", placement]).await
    };
    for placement in ["remote", "database:", "database:EU", "database:eu us", "eu"] {
        let output = to(placement).await;
        assert!(
            output.stderr.contains("must be shared, schema or database:NAME"),
            "{}",
            output.stderr
        );
        assert_ne!(output.code, Some(0));
    }
    failed(&to("database:us").await, "the database us is not in MIGRATION_DATABASES");
    assert_eq!(placements(database, &eu).await, ("-".into(), "-".into()));
    run_move(database, &eu, "database:eu").await;
    for placement in ["schema", "database:us"] {
        failed(
            &to(placement).await,
            "acme lives in the database eu. Move it to the shared tables first, with --to shared",
        );
    }
    // When both databases claim an organization, no command chooses one.
    database.execute("UPDATE app.placements SET placement = 'shared', old_placement = NULL").await;
    failed(&to("database:eu").await, "the databases disagree about acme");
    database.execute("UPDATE app.placements SET placement = 'database:eu'").await;
    eu.database.execute("UPDATE app.placements SET generation = 7").await;
    failed(&to("shared").await, "the databases disagree about acme");
    failed(
        &command(database, &eu, &["tenant", "verify", "acme"]).await,
        "acme should live in the database eu, but does not",
    );
    eu.database.execute("UPDATE app.placements SET generation = 1").await;
    run_move(database, &eu, "shared").await;
    assert_verified(database, &eu).await;
}
