//! Moves that come to their end.

use std::time::Duration;

use serde_json::json;

use super::{command, contents, go, lives, placements, start, verified};
use crate::{
    support::{
        Reply,
        placement::{ACME, GLOBEX},
    },
    tenant::{done, log_entries, refused, writers::Writers},
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
async fn every_row_is_the_same_there_and_back() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (&app.database, &eu.database);
    database.execute(STRANGE).await;
    let before = contents(database).await;
    let globex = super::rows(database, GLOBEX).await;
    let output = go(database, &eu, "database:eu").await;
    assert_eq!(output.stdout.matches(" same").count(), 8, "{}", output.stdout);
    assert!(
        output.stdout.contains("acme now lives in the database eu, moved from the shared tables:"),
        "{}",
        output.stdout
    );
    assert_eq!(placements(database, &eu).await, ("database:eu 1".into(), "shared 1".into()));
    assert_eq!(contents(there).await, before);
    verified(database, &eu).await;
    let slugs = "SELECT array_agg(slug || (retired_at IS NULL) ORDER BY slug COLLATE \"C\") FROM app.organization_slugs WHERE organization_id = '00000000-0000-4000-8000-00000000000a'";
    let known: Vec<String> = there.exactly(slugs).await;
    assert_eq!(known, database.exactly::<Vec<String>>(slugs).await);
    assert_eq!(known, ["acmetrue", "acme-beforefalse"]);
    let people: i64 = there.exactly("SELECT count(*) FROM auth.users").await;
    assert_eq!(people, 4);

    let listed = command(database, &eu, &["tenant", "list"]).await;
    assert!(
        done(&listed).contains("database:eu  stale copy in the shared tables"),
        "{}",
        listed.stdout
    );
    let shown = command(database, &eu, &["tenant", "show", "acme"]).await;
    assert!(done(&shown).contains("lives in the database eu\n"), "{}", shown.stdout);
    assert!(
        shown.stdout.contains(&format!("{:<30} {:>10} rows", "app.projects", 5)),
        "{}",
        shown.stdout
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.jsonl");
    done(&command(database, &eu, &["tenant", "export", "acme", file.to_str().unwrap()]).await);
    assert!(std::fs::read_to_string(&file).unwrap().contains("tab\\there, NULL"));
    app.person("acme-owner")
        .data("mutation { createProject(input: { name: \"in eu\" }) { project { id } } }")
        .await;
    app.person("acme-owner").data("mutation { updateOrganization(input: { name: \"Acme of Europe\" }) { organization { id } } }").await;

    let before = contents(there).await;
    let output = go(database, &eu, "shared").await;
    assert!(
        output.stdout.contains("acme now lives in the shared tables, moved from the database eu:"),
        "{}",
        output.stdout
    );
    assert_eq!(placements(database, &eu).await, ("shared 2".into(), "elsewhere 2".into()));
    assert_eq!(contents(database).await, before);
    assert_eq!(super::rows(database, GLOBEX).await, globex);
    verified(database, &eu).await;
    let moved: Vec<String> = database
        .exactly(&format!(
            "SELECT array_agg(concat_ws(' ', metadata->>'from', metadata->>'to', (metadata->>'rows')::int > 10) ORDER BY created_at)
             FROM audit.audit_logs WHERE organization_id = '{ACME}' AND actor_name = 'tenantry tenant move'"
        ))
        .await;
    assert_eq!(moved, ["shared database:eu t", "database:eu shared t"]);
    // And there again, though the old copy still lies there.
    go(database, &eu, "database:eu").await;
    verified(database, &eu).await;
    assert_eq!(placements(database, &eu).await, ("database:eu 3".into(), "shared 3".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_work_on_while_their_organization_moves_to_a_database_and_back() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 30_000).await;
    let writers = Writers::start(&app, 4);
    let globex = app.person("globex-owner");
    for (to, arguments) in [
        ("database:eu", &[][..]),
        ("shared", &["--drop-source"][..]),
        ("database:eu", &["--drop-source"]),
        ("shared", &["--keep-source-days", "0"]),
    ] {
        let before = writers.writes();
        let arguments = [&["tenant", "move", "acme", "--to", to], arguments].concat();
        let output = command(database, &eu, &arguments).await;
        assert!(done(&output).contains("writers paused for at most"), "{}", output.stdout);
        eprintln!("{}", output.stdout);
        assert_eq!(output.stdout.matches(" same").count(), 8, "{}", output.stdout);
        while writers.writes() < before + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        done(&command(database, &eu, &["tenant", "verify", "acme"]).await);
        globex.data("{ organization { projects { nodes { name } } } }").await;
    }
    let book = writers.stop().await;
    eprintln!("{} writes, the slowest took {:?}", book.writes, book.slowest);
    book.check(&lives(database, &eu).await).await;
    verified(database, &eu).await;
    assert!(
        done(&command(database, &eu, &["tenant", "prune"]).await)
            .contains("deleted 1 stale copies")
    );
    for (table, left) in super::rows(&eu.database, ACME).await {
        assert!(left.is_empty(), "{table}");
    }
    for table in ["app.placements", "app.organization_slugs", "app.directory_changes"] {
        let left: i64 = eu.database.exactly(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 0, "{table}");
    }
    verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_repeats_what_was_done_before_the_move() {
    let Some((app, eu)) = start().await else { return };
    let owner = app.person("acme-owner");
    let mut seen = Vec::new();
    for to in ["database:eu", "shared"] {
        let body = json!({ "query": format!("mutation {{ createProject(input: {{ name: \"once {to}\" }}) {{ project {{ id }} }} }}") });
        let ask = || Reply::of(owner.post().header("idempotency-key", to).json(&body));
        let first = ask().await.data();
        go(&app.database, &eu, to).await;
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
async fn members_are_as_they_are_when_they_arrive() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    go(database, &eu, "database:eu").await;
    go(database, &eu, "shared").await;
    // The copies of them stay where they were.
    database.execute("UPDATE auth.users SET name = 'Olivia Renamed' WHERE name = 'Olivia'; UPDATE auth.identities SET email = 'new@example.com' WHERE subject = 'acme-member'").await;
    go(database, &eu, "database:eu").await;
    let name: i64 =
        eu.database.exactly("SELECT count(*) FROM auth.users WHERE name = 'Olivia Renamed'").await;
    let email: i64 = eu
        .database
        .exactly("SELECT count(*) FROM auth.identities WHERE email = 'new@example.com'")
        .await;
    assert_eq!((name, email), (1, 1));
    verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lives_in_a_schema_moves_to_a_database() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    let before = contents(database).await;
    go(database, &eu, "schema").await;
    let refusal = command(database, &eu, &["tenant", "move", "acme", "--to", "database:eu"]).await;
    refused(
        &refusal,
        "acme has a stale copy in the shared tables. Delete it first, with --to schema --drop-source",
    );
    done(
        &command(database, &eu, &["tenant", "move", "acme", "--to", "schema", "--drop-source"])
            .await,
    );
    go(database, &eu, "database:eu").await;
    assert_eq!(contents(&eu.database).await, before);
    verified(database, &eu).await;
    let shown = command(database, &eu, &["tenant", "show", "acme"]).await;
    assert!(done(&shown).contains("stale copy in a dedicated schema"), "{}", shown.stdout);
    let refusal = command(database, &eu, &["tenant", "move", "acme", "--to", "shared"]).await;
    refused(
        &refusal,
        "acme has a stale copy in a dedicated schema. Delete it first, with --to database:eu --drop-source",
    );
    done(
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
    go(database, &eu, "shared").await;
    assert_eq!(contents(database).await, before);
    verified(database, &eu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_between_databases_is_told_in_a_line() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    let to =
        async |home: &str| command(database, &eu, &["tenant", "move", "acme", "--to", home]).await;
    for home in ["elsewhere", "database:", "database:EU", "database:eu us", "eu"] {
        let output = to(home).await;
        assert!(
            output.stderr.contains("must be shared, schema or database:NAME"),
            "{}",
            output.stderr
        );
        assert_ne!(output.code, Some(0));
    }
    refused(&to("database:us").await, "the database us is not in MIGRATION_DATABASES");
    assert_eq!(placements(database, &eu).await, ("-".into(), "-".into()));
    go(database, &eu, "database:eu").await;
    for home in ["schema", "database:us"] {
        refused(
            &to(home).await,
            "acme lives in the database eu. Move it to the shared tables first, with --to shared",
        );
    }
    // What both claim, nobody decides.
    database.execute("UPDATE app.placements SET home = 'shared', old_home = NULL").await;
    refused(&to("database:eu").await, "the databases disagree about acme");
    database.execute("UPDATE app.placements SET home = 'database:eu'").await;
    eu.database.execute("UPDATE app.placements SET generation = 7").await;
    refused(&to("shared").await, "the databases disagree about acme");
    refused(
        &command(database, &eu, &["tenant", "verify", "acme"]).await,
        "acme should live in the database eu, but does not",
    );
    eu.database.execute("UPDATE app.placements SET generation = 1").await;
    go(database, &eu, "shared").await;
    verified(database, &eu).await;
}
