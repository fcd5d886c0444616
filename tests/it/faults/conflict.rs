//! Conflicting transactions, of which PostgreSQL aborts the server's.

use std::time::{Duration, Instant};

use pg::Client;

use crate::support::{App, HANG, Reply};

/// The first and the last project of acme, by name.
const PROJECTS: &str = "SELECT array[min(id::text), max(id::text)] FROM app.projects
    WHERE organization_id = '00000000-0000-4000-8000-00000000000a'";

/// Makes every change of a project fail with a serialization error, `times` times.
async fn conflicts(app: &App, times: u32) {
    app.database
        .execute(&format!(
            "CREATE SEQUENCE app.attempts;
             GRANT USAGE ON SEQUENCE app.attempts TO tenantry_app;
             CREATE FUNCTION app.conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('app.attempts') <= {times} THEN
                     RAISE serialization_failure;
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER conflict BEFORE INSERT OR UPDATE ON app.projects
                 FOR EACH ROW EXECUTE FUNCTION app.conflict()"
        ))
        .await;
}

/// Returns the number of projects of that name, and of entries about their creation.
async fn count(app: &App) -> (i64, i64) {
    let projects = "SELECT count(*) FROM app.projects WHERE name = 'in the way'";
    let logs = "SELECT count(*) FROM audit.audit_logs WHERE metadata->>'name' = 'in the way'";
    (app.database.value(projects).await, app.database.value(logs).await)
}

async fn create(app: &App) -> Reply {
    let create = "mutation { createProject(input: { name: \"in the way\" }) { project { name } } }";
    app.user("acme-owner").query(create).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_always_conflicts_is_rejected_and_leaves_nothing() {
    let app = App::start().await;
    conflicts(&app, u32::MAX).await;
    let started = Instant::now();
    let reply = create(&app).await;
    reply.assert_refused(503, "UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"));
    assert!(started.elapsed() < HANG, "the server retries without end");
    assert_eq!(count(&app).await, (0, 0));
}

/// Locks two rows in the order that leads to a deadlock with a mutation that changes them in the
/// other order. The mutation's session detects the deadlock first.
async fn deadlock(app: &App, first: &str, second: &str) -> Client {
    let admin = app.database.connect_admin().await;
    admin.batch("SET deadlock_timeout = '1min'; BEGIN").await.unwrap();
    lock(&admin, second).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database() AND usename = 'tenantry_app'";
    let started = Instant::now();
    while app.database.value::<i64>(waiting).await == 0 {
        assert!(started.elapsed() < HANG, "no session waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lock(&admin, first).await;
    admin
}

async fn lock(admin: &Client, project: &str) {
    admin
        .execute("SELECT FROM app.projects WHERE id = $1::uuid FOR UPDATE", &[&project])
        .await
        .unwrap();
}

async fn run_deadlock(app: &App) -> Reply {
    let ids: Vec<String> = app.database.value(PROJECTS).await;
    let change = |alias: &str, id: &str| {
        format!(
            "{alias}: updateProject(input: {{ id: \"{id}\", name: \"in the way\" }}) {{ project {{ id }} }}"
        )
    };
    let text = format!("mutation {{ {} {} }}", change("a", &ids[0]), change("b", &ids[1]));
    let owner = app.user("acme-owner");
    let changing = tokio::spawn(async move { owner.query(&text).await });
    let admin = deadlock(app, &ids[0], &ids[1]).await;
    // The other transaction has its lock, so PostgreSQL has aborted the mutation's.
    admin.batch("ROLLBACK").await.unwrap();
    changing.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_leaves_all_of_a_mutation_or_nothing() {
    let app = App::start().await;
    let reply = run_deadlock(&app).await;
    let (changed, _) = count(&app).await;
    if reply.status == 200 {
        reply.data();
        assert_eq!(changed, 2);
    } else {
        reply.assert_refused(503, "UNAVAILABLE");
        assert_eq!(changed, 0);
    }
}

// The tests below rely on the server's retry of a whole mutation after 40001 and 40P01.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_aborted_by_a_deadlock_is_retried() {
    let app = App::start().await;
    let reply = run_deadlock(&app).await;
    // The retry must succeed: the other transaction has ended.
    reply.data();
    assert_eq!(count(&app).await.0, 2);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let started = Instant::now();
    // PostgreSQL updates this counter with a delay.
    while app.database.value::<i64>(deadlocks).await == 0 {
        assert!(started.elapsed() < HANG, "there was no deadlock, so the test shows nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_with_a_serialization_failure_is_executed_once_and_counted_once() {
    let app = App::start().await;
    let remaining = |reply: &Reply| -> i64 {
        reply.headers["ratelimit-remaining"].to_str().unwrap().parse().unwrap()
    };
    let before = remaining(&app.user("acme-owner").query("{ organization { name } }").await);
    conflicts(&app, 1).await;
    let reply = create(&app).await;
    let after = remaining(&reply);
    // The retry must succeed: it meets no conflict.
    reply.data();
    assert_eq!(count(&app).await, (1, 1));
    assert_eq!(after, before - 1, "a retry does not count as a call");
}
