//! Side channels: learning about rows without reading them, through errors, estimates, statistics
//! or keys.

use super::{ACME, DENIED, GLOBEX, GLOBEX_OWNER, Injection};
use crate::support::database::Database;

/// Texts that occur only in globex.
const FOREIGN: [&str; 4] = ["Weather", "Hammock", "globex", "Omar"];

#[track_caller]
fn assert_nothing_foreign(said: &str) {
    assert!(!FOREIGN.iter().any(|word| said.contains(word)), "{said}");
}

#[tokio::test]
async fn a_condition_that_raises_its_input_sees_no_foreign_row() {
    let database = Database::create().await;
    let conditions = [
        "SELECT FROM projects WHERE name::integer = 0",
        "SELECT FROM projects WHERE (organization_id::text || name)::integer = 0",
        "SELECT FROM projects p, LATERAL (SELECT FROM generate_series(1, p.name::integer)) s",
        "SELECT max(name::integer) FROM projects",
        "SELECT FROM projects ORDER BY name::integer",
        "SELECT FROM projects GROUP BY name::integer",
        "UPDATE projects SET name = 'x' WHERE name::integer = 0",
        "DELETE FROM projects WHERE name::integer = 0 RETURNING name",
        "SELECT FROM query_to_xml('SELECT name::integer FROM projects', true, true, '')",
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM projects LOOP RAISE '%', r; END LOOP; END $$",
    ];
    for sql in conditions {
        let mut in_acme = Injection::in_acme(&database).await;
        let Err((_, said)) = in_acme.attempt(sql).await else {
            panic!("{sql} raises no error, so the test shows nothing");
        };
        assert_nothing_foreign(&said);
        // The caller's rows would raise first and hide foreign rows, so they are deleted.
        in_acme.run("DELETE FROM projects").await;
        assert!(in_acme.attempt(sql).await.is_ok(), "{sql}");
        let mut fresh = Injection::fresh(&database).await;
        assert!(fresh.attempt(sql).await.is_ok(), "{sql}");
    }
}

#[tokio::test]
async fn other_ways_to_read_a_table_respect_its_policies() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        for sql in [
            "SELECT query_to_xml('SELECT * FROM projects', true, true, '')::text",
            "SELECT table_to_xml('auth.users', true, true, '')::text",
            "SELECT schema_to_xml('app', true, true, '')::text",
            "SELECT string_agg(word, ' ') FROM ts_stat('SELECT to_tsvector(name) FROM projects')",
            "SELECT string_agg(p::text, ' ') FROM projects p TABLESAMPLE SYSTEM (100)",
            "SELECT string_agg(p::text, ' ') FROM projects p WHERE ctid IS NOT NULL",
        ] {
            // The schema as a whole contains tables that the role may not read.
            if let Err((code, said)) = injection.attempt(sql).await {
                assert_eq!(code, DENIED, "{sql}");
                assert_nothing_foreign(&said);
            } else {
                assert_nothing_foreign(&injection.text(sql).await.unwrap_or_default());
            }
        }
        let copied = copied_projects(&database, injection.context).await;
        assert_nothing_foreign(&copied);
        assert_eq!(copied.lines().count(), if injection.context == "fresh" { 0 } else { 4 });
        // COPY FROM does not support row-level security, so PostgreSQL rejects it.
        let (code, _) = injection
            .attempt("COPY projects (organization_id, name) FROM STDIN")
            .await
            .unwrap_err();
        assert_eq!(code, "0A000");
    }
}

/// Returns the projects that COPY sends, which the app's driver does not offer.
async fn copied_projects(database: &Database, context: &str) -> String {
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(database.socket())
        .user("tenantry_app")
        .dbname(&database.name)
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await.unwrap();
    if context == "in acme" {
        let open = database.opening("acme-owner", "acme").await;
        client.batch_execute(&open).await.unwrap();
    }
    let rows = client.copy_out("COPY projects TO STDOUT").await.unwrap();
    let chunks: Vec<_> = futures_util::StreamExt::collect(rows).await;
    let text = chunks.into_iter().map(|chunk| String::from_utf8(chunk.unwrap().into()).unwrap());
    text.collect()
}

#[tokio::test]
async fn statistics_of_tenants_are_hidden() {
    let database = Database::create().await;
    database.execute("ANALYZE").await;
    let all: i64 = database
        .value("SELECT count(*) FROM pg_stats WHERE schemaname IN ('app', 'auth', 'audit')")
        .await;
    assert!(all > 20, "{all} columns have statistics");
    for mut injection in Injection::both(&database).await {
        let ours =
            "SELECT count(*)::text FROM pg_stats WHERE schemaname IN ('app', 'auth', 'audit')";
        assert_eq!(injection.text(ours).await.as_deref(), Some("0"));
        assert_eq!(
            injection.text("SELECT count(*)::text FROM pg_stats_ext").await.as_deref(),
            Some("0")
        );
        injection
            .all_denied(&[
                "SELECT FROM pg_statistic",
                "SELECT FROM pg_statistic_ext_data",
                "CREATE STATISTICS app.x ON name, description FROM projects",
            ])
            .await;
    }
}

#[tokio::test]
async fn a_unique_violation_reveals_only_that_the_key_is_taken() {
    let database = Database::create().await;
    let mut injection = Injection::in_acme(&database).await;
    let taken = [
        "UPDATE organizations SET slug = 'globex'".to_owned(),
        format!("INSERT INTO organizations (id, name, slug) VALUES ('{ACME}', 'x', 'globex')"),
    ];
    for sql in taken {
        let (code, said) = injection.attempt(&sql).await.unwrap_err();
        // The error reveals that a row with this slug exists, but no value, not even the one sent.
        assert_eq!(code, "23505");
        assert_nothing_foreign(&said);
    }
    let insert = format!(
        "INSERT INTO organizations (id, name, slug) VALUES ('{ACME}', 'x', 'globex') ON CONFLICT (slug)"
    );
    assert_eq!(injection.attempt(&format!("{insert} DO NOTHING")).await, Ok(0), "it exists");
    let outcome =
        injection.attempt(&format!("{insert} DO UPDATE SET name = 'x' RETURNING *")).await;
    Injection::denied(&outcome, "the row itself is not visible");
    assert_nothing_foreign(&outcome.unwrap_err().1);
    for sql in [
        format!(
            "INSERT INTO organizations (id, name, slug) VALUES ('{GLOBEX}', 'x', 'y') ON CONFLICT DO NOTHING"
        ),
        format!(
            "INSERT INTO projects (organization_id, name) VALUES ('{GLOBEX}', 'x') ON CONFLICT DO NOTHING"
        ),
    ] {
        injection.all_denied(&[&sql]).await;
    }
}

#[tokio::test]
async fn a_foreign_key_reaches_no_other_tenant() {
    let database = Database::create().await;
    let mut injection = Injection::in_acme(&database).await;
    // The policy is checked first, so an existing and a missing id get the same error.
    let mut refusals = Vec::new();
    for organization in [GLOBEX, "00000000-0000-4000-8000-0000000000ff"] {
        let sql =
            format!("INSERT INTO projects (organization_id, name) VALUES ('{organization}', 'x')");
        refusals.push(injection.attempt(&sql).await);
        let sql = format!("UPDATE organization_members SET organization_id = '{organization}'");
        injection.all_denied(&[&sql]).await;
    }
    Injection::denied(&refusals[0], "a project of globex");
    assert_eq!(refusals[0], refusals[1]);
}

#[tokio::test]
async fn known_limit_a_membership_shows_the_user_of_a_known_id() {
    let database = Database::create().await;
    let mut injection = Injection::in_acme(&database).await;
    let email = format!("SELECT max(email) FROM users WHERE id = '{GLOBEX_OWNER}'");
    assert_eq!(injection.text(&email).await, None);
    injection
        .run(&format!("INSERT INTO organization_members (organization_id, user_id, role) VALUES ('{ACME}', '{GLOBEX_OWNER}', 'viewer')"))
        .await;
    assert_eq!(injection.text(&email).await.as_deref(), Some("globex-owner@example.com"));
}

#[tokio::test]
async fn known_limit_estimates_reveal_row_counts_and_frequent_values() {
    let database = Database::create().await;
    database
        .execute(&format!(
            "INSERT INTO app.projects (organization_id, name) SELECT '{GLOBEX}', 'secret' FROM generate_series(1, 3000);
             INSERT INTO app.projects (organization_id, name) SELECT '{ACME}', 'own ' || n FROM generate_series(1, 3000) n;
             ANALYZE app.projects"
        ))
        .await;
    let mut injection = Injection::in_acme(&database).await;
    let mut estimate = async |condition: &str| {
        let sql = format!("EXPLAIN SELECT FROM projects WHERE {condition}");
        let line = injection.text(&sql).await.unwrap();
        let rows = line.split("rows=").nth(1).unwrap().split(' ').next().unwrap();
        rows.parse::<u32>().unwrap()
    };
    assert!(estimate(&format!("organization_id = '{GLOBEX}'")).await > 1_000);
    assert!(estimate("organization_id = '00000000-0000-4000-8000-0000000000ff'").await < 100);
    // Operators marked leakproof use the most common values. Others do not.
    assert!(estimate("name = 'secret'").await > 1_000);
    assert!(estimate("name = 'sekret'").await < 100);
    assert_eq!(estimate("name LIKE 'sec%'").await, estimate("name LIKE 'sek%'").await);
    let estimate =
        "SELECT (reltuples > 6000)::text FROM pg_class WHERE oid = 'app.projects'::regclass";
    assert_eq!(
        injection.text(estimate).await.as_deref(),
        Some("true"),
        "the rows of all tenants are counted"
    );
}
