//! Accepted limits: what PostgreSQL cannot prevent once an attacker runs SQL. They are documented
//! here so that no code relies on the contrary.

use std::time::{Duration, Instant};

use tenantry::tenancy::{DatabaseOptions, Databases, Extent, Finding};

use super::{GLOBEX, Injection};
use crate::support::{App, HANG, database::Database};

#[tokio::test]
async fn known_limit_a_lock_can_block_every_tenant() {
    let database = Database::create().await;
    let mut injection = Injection::fresh(&database).await;
    let mut victim = Injection::in_acme(&database).await;
    victim.run("SET LOCAL lock_timeout = '50ms'").await;
    assert_eq!(victim.attempt("SELECT FROM projects").await, Ok(4));
    injection.run("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").await;
    let (code, _) = victim.attempt("SELECT FROM projects").await.unwrap_err();
    assert_eq!(code, "55P03");
    // Without a limit in time: each session can change its own timeouts.
    injection.run("SET statement_timeout = 0").await;
    injection.run("SET idle_in_transaction_session_timeout = 0").await;
    injection.run("SELECT pg_sleep(0.001)").await;
    injection.run("ROLLBACK").await;
    assert_eq!(victim.attempt("SELECT FROM projects").await, Ok(4));
}

#[tokio::test]
async fn known_limit_advisory_locks_are_open_to_every_session() {
    let database = Database::create().await;
    let mut injection = Injection::fresh(&database).await;
    let mut victim = Injection::in_acme(&database).await;
    let key = "hashtextextended('founder 00000000-0000-4000-8000-0000000000a1', 0)";
    injection.run(&format!("SELECT pg_advisory_xact_lock({key})")).await;
    let taken = victim.text(&format!("SELECT pg_try_advisory_xact_lock({key})::text")).await;
    assert_eq!(taken.as_deref(), Some("false"));
}

#[tokio::test]
async fn known_limit_connections_of_the_same_role_can_be_ended() {
    let database = Database::create().await;
    let mut injection = Injection::fresh(&database).await;
    let mut victim = Injection::in_acme(&database).await;
    let process = victim.text("SELECT pg_backend_pid()::text").await.unwrap();
    let ended = format!("SELECT pg_terminate_backend({process}, 5000)::text");
    assert_eq!(injection.text(&ended).await.as_deref(), Some("true"));
    assert!(victim.connection.batch("SELECT 1").await.is_err());
    // Connections of other roles cannot be ended.
    let admin = database.connect_admin().await;
    let process: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        injection.all_denied(&[&format!("SELECT {function}({process})")]).await;
    }
}

#[tokio::test]
async fn known_limit_the_role_can_change_its_own_password_and_settings() {
    let database = Database::create().await;
    let mut injection = Injection::fresh(&database).await;
    // Each change is rolled back: the role belongs to the whole cluster, and other tests may change
    // it at the same time.
    for sql in ["ALTER ROLE tenantry_app PASSWORD 'x'", "ALTER ROLE tenantry_app RESET ALL"] {
        let outcome = injection.attempt(sql).await;
        let disturbed = |error: &(String, String)| error.1.contains("concurrently updated");
        assert!(outcome.is_ok() || outcome.as_ref().is_err_and(disturbed), "{sql}: {outcome:?}");
    }
    let name = &database.name;
    injection
        .run(&format!("ALTER ROLE tenantry_app IN DATABASE {name} SET search_path = pg_temp"))
        .await;
    injection.run("COMMIT").await;
    // Later connections find no table, and the self-check names the reason.
    let mut next = Injection::fresh(&database).await;
    let (code, _) = next.attempt("SELECT FROM projects").await.unwrap_err();
    assert_eq!(code, "42P01");
    let options = DatabaseOptions {
        connect: database.app(),
        system: None,
        listen: None,
        replica: None,
        dedicated: Vec::new(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        statement_cache: 100,
    };
    let findings = Databases::shared(&options).unwrap().self_check(Extent::Quick).await.unwrap();
    let named = |finding: &Finding| finding.problem.contains("has the search_path pg_temp");
    assert!(findings.iter().any(named), "{findings:?}");
}

#[tokio::test]
async fn known_limit_large_objects_can_be_created() {
    let database = Database::create().await;
    let mut injection = Injection::in_acme(&database).await;
    let left = injection.text("SELECT lo_from_bytea(0, 'anything')::text").await.unwrap();
    injection.run("COMMIT").await;
    let mut other = Injection::fresh(&database).await;
    let found = other.text(&format!("SELECT convert_from(lo_get({left}), 'UTF8')")).await;
    assert_eq!(found.as_deref(), Some("anything"), "readable in every tenant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_limit_statements_of_other_sessions_are_visible_without_their_values() {
    let app = App::start().await;
    let mut injection = Injection::fresh(&app.database).await;
    injection.run("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").await;
    let owner = app.user("globex-owner");
    let create =
        "mutation ($name: String!) { createProject(input: { name: $name }) { project { name } } }";
    let creating = tokio::spawn(async move {
        owner.query_with(create, serde_json::json!({ "name": "unheard of" })).await
    });
    let waiting = "SELECT string_agg(query, '|') FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'";
    let start = Instant::now();
    let seen = loop {
        // A transaction otherwise keeps its first snapshot of the statistics.
        injection.run("SELECT pg_stat_clear_snapshot()").await;
        if let Some(seen) = injection.text(waiting).await {
            break seen;
        }
        assert!(start.elapsed() < HANG, "no session waits for the lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(seen.contains("projects") && seen.contains("$1"), "{seen}");
    assert!(!seen.contains("unheard of") && !seen.contains(GLOBEX), "{seen}");
    injection.run("ROLLBACK").await;
    assert_eq!(creating.await.unwrap().data()["createProject"]["project"]["name"], "unheard of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_limit_changes_of_every_tenant_can_be_received_as_ids() {
    let app = App::start().await;
    let mut listener = pg::Listener::connect(&app.database.app(), "tenantry").await.unwrap();
    // Servers notify only while this lock marks a listener, and injected SQL can take the lock.
    let mut injection = Injection::fresh(&app.database).await;
    injection.run("SELECT pg_advisory_lock_shared(x'74656e61'::int, x'6e747279'::int)").await;
    let create = "mutation { createProject(input: { name: \"unheard of\" }) { project { id } } }";
    let data = app.user("globex-owner").data(create).await;
    let heard =
        tokio::time::timeout(Duration::from_secs(10), listener.next()).await.unwrap().unwrap();
    assert!(heard.contains(GLOBEX), "{heard}");
    assert!(heard.contains(data["createProject"]["project"]["id"].as_str().unwrap()), "{heard}");
    assert!(!heard.contains("unheard of") && !heard.contains('@'), "{heard}");
}
