//! Taking over another tenant's session: through its carrier, its settings, its functions, or the
//! state of the connection.

use pg::Client;

use super::{ACME, GLOBEX, GLOBEX_OWNER, Injected};
use crate::support::database::Database;

/// How an injection may try to enter another tenant. Each must fail or have no effect.
const ATTEMPTS: [&str; 20] = [
    "SELECT set_config('app.current_org_id', 'GLOBEX', true)",
    "SELECT set_config('app.current_org_id', 'GLOBEX', false)",
    "SET app.current_org_id = 'GLOBEX'",
    "SET LOCAL app.current_user_id = 'OWNER'",
    "SELECT set_config('backtrace_functions', 'CARRIER', true)",
    "SELECT set_config('backtrace_functions', 'CARRIER', false)",
    "SET backtrace_functions = 'CARRIER'",
    "SET LOCAL backtrace_functions = 'CARRIER'",
    "UPDATE pg_settings SET setting = 'CARRIER' WHERE name = 'backtrace_functions'",
    "ALTER ROLE tenantry_app SET backtrace_functions = 'CARRIER'",
    "ALTER SYSTEM SET backtrace_functions = 'CARRIER'",
    "GRANT SET ON PARAMETER backtrace_functions TO tenantry_app",
    "SELECT app.set_session('GLOBEX', 'OWNER', 'owner')",
    "SELECT app.open_session('GLOBEX', 'OWNER', 'owner')",
    "SELECT auth.enter_organization('GLOBEX')",
    "SELECT auth.enter_invited_organization(sha256('globex'))",
    "CREATE OR REPLACE FUNCTION app.current_organization() RETURNS uuid LANGUAGE sql RETURN 'GLOBEX'::uuid",
    "ALTER FUNCTION app.current_organization SET backtrace_functions = 'CARRIER'",
    "SET LOCAL search_path = pg_temp, public, app",
    "DO $$ BEGIN PERFORM set_config('backtrace_functions', 'CARRIER', true);
           EXCEPTION WHEN OTHERS THEN PERFORM set_config('app.current_org_id', 'GLOBEX', true); END $$",
];

fn filled(sql: &str) -> String {
    let plain = |id: &str| id.replace('-', "");
    let carrier = format!("tenantry_{}_{}_owner", plain(GLOBEX), plain(GLOBEX_OWNER));
    sql.replace("CARRIER", &carrier).replace("GLOBEX", GLOBEX).replace("OWNER", GLOBEX_OWNER)
}

#[tokio::test]
async fn injected_sql_reaches_no_other_tenant() {
    let database = Database::create().await;
    let before = database.fingerprint().await;
    let kinds = [
        "BEGIN ISOLATION LEVEL READ COMMITTED",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ];
    for begin in kinds {
        for sql in ATTEMPTS {
            let mut injected = Injected::begin(&database, begin).await;
            let _ = injected.attempt(&filled(sql)).await;
            injected
                .run("SET LOCAL search_path = app, auth, billing, audit, pg_temp")
                .await
                .unwrap();
            injected.reaches_no_other_tenant(sql).await;
            assert_eq!(
                injected.text("SELECT app.current_organization()::text").await,
                ACME,
                "{sql}"
            );
            injected.run("ROLLBACK").await.unwrap();
        }
    }
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test]
async fn releasing_the_session_gives_no_other_access() {
    let database = Database::create().await;
    for sql in [
        "RESET backtrace_functions",
        "RESET ALL",
        "SET backtrace_functions TO DEFAULT",
        "COMMIT; BEGIN",
        "ROLLBACK; BEGIN",
        "COMMIT; DISCARD ALL; BEGIN",
        "COMMIT AND CHAIN",
    ] {
        let mut injected = Injected::new(&database).await;
        for statement in sql.split("; ") {
            let _ = injected.run(statement).await;
        }
        // A failed statement aborts the transaction. A new one has no session.
        if injected.run("SELECT 1").await.is_err() {
            injected.run("ROLLBACK").await.unwrap();
            injected.run("BEGIN").await.unwrap();
        }
        injected.reaches_no_other_tenant(sql).await;
        let seen = injected.text("SELECT count(*)::text FROM projects").await;
        assert_eq!(seen, "0", "{sql}: the connection has no session any more");
    }
}

#[tokio::test]
async fn the_session_ends_with_its_transaction() {
    let database = Database::create().await;
    for end in ["COMMIT", "ROLLBACK"] {
        let mut injected = Injected::new(&database).await;
        injected.run("SAVEPOINT s").await.unwrap();
        assert_eq!(injected.text("SELECT count(*)::text FROM projects").await, "4");
        injected.run("PREPARE names AS SELECT count(*)::text FROM projects").await.unwrap();
        injected.run("ROLLBACK TO s").await.unwrap();
        assert_eq!(injected.text("EXECUTE names").await, "4");
        injected.run(end).await.unwrap();
        // The injection leaves nothing usable on the connection.
        assert_eq!(injected.text("SELECT current_setting('backtrace_functions')").await, "");
        assert_eq!(injected.text("EXECUTE names").await, "0");
        assert_eq!(injected.text("SELECT app.current_organization()::text").await, "");
    }
}

#[tokio::test]
async fn a_connection_cannot_start_in_another_tenant() {
    let database = Database::create().await;
    let options =
        database.app().with("options", format!("-c backtrace_functions={}", filled("CARRIER")));
    let refused = Client::connect(&options).await.unwrap_err();
    assert_eq!(refused.code(), Some(super::DENIED));
}

#[tokio::test]
async fn parallel_workers_and_cursors_keep_the_session() {
    let database = Database::create().await;
    let mut injected = Injected::new(&database).await;
    let mode = "SELECT set_config(name, 'on', true) FROM pg_settings
                WHERE name IN ('force_parallel_mode', 'debug_parallel_query')";
    injected.run(mode).await.unwrap();
    assert_eq!(injected.text("SELECT count(*)::text FROM projects").await, "4");
    injected.reaches_no_other_tenant("a parallel query").await;
    injected
        .run("DECLARE c CURSOR WITH HOLD FOR SELECT count(*)::text FROM projects")
        .await
        .unwrap();
    injected.run("COMMIT").await.unwrap();
    assert_eq!(injected.text("FETCH c").await, "4", "what was read in the session");
    injected.run("CLOSE c").await.unwrap();
}
