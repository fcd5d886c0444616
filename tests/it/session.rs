//! Sessions: however a request is interrupted, its connection returns to the pool clean.

use std::{
    collections::HashSet,
    future::Future as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use chrono::Utc;
use proptest::{prelude::*, strategy::ValueTree};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::json;
use tenantry::{
    auth::{Caller, Permission},
    clock::Clock,
    error::{Error, ErrorCode},
    tenancy::{Destination, OpenFor, Opened, open},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::support::{App, AppSettings, HANG};

const QUERY: &str =
    "{ viewer { name } organization { slug projects { nodes { createdBy { name } } }
                       members { nodes { user { name } } } } }";
const CREATE: &str = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";

fn caller(subject: &str, organization: Option<&str>) -> Caller {
    Caller {
        expires_at: chrono::DateTime::<Utc>::MAX_UTC,
        subject: subject.to_owned(),
        organization: organization.map(str::to_owned),
        ..Caller::default()
    }
}

async fn open_as(app: &App, caller: &Caller, slug: Option<&str>) -> Result<Opened, Error> {
    let destination = Destination { slug: slug.map(str::to_owned), client_ip: None };
    open(&app.service.databases, &app.service.settings, caller, &destination, &OpenFor::Query).await
}

/// Asserts that every connection of the pool is idle and clean, and that requests work.
async fn assert_clean(app: &App, connections: usize) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND usename = 'tenantry_app' AND (xact_start IS NOT NULL OR state <> 'idle')";
    let start = Instant::now();
    while app.database.value::<i64>(busy).await > 0 {
        assert!(start.elapsed() < HANG, "a transaction stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Open as many sessions at once as the pool has connections, so that each is checked.
    let user = caller("acme-owner", None);
    let mut sessions = Vec::new();
    let mut backends = HashSet::new();
    for _ in 0..connections {
        let session = open_as(app, &user, None).await.unwrap().session;
        let sql = "SELECT pg_backend_pid() AS pid,
                          nullif(current_setting('app.current_org_id', true), '') AS organization,
                          nullif(current_setting('app.current_role', true), '') AS role,
                          (SELECT count(*) FROM organizations) AS organizations,
                          txid_current_if_assigned() IS NOT NULL AS wrote";
        let row = session
            .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await
            .unwrap()
            .unwrap();
        backends.insert(row.try_get::<i32>("", "pid").unwrap());
        for setting in ["organization", "role"] {
            let found: Option<String> = row.try_get("", setting).unwrap();
            assert_eq!(found, None, "a foreign {setting}");
        }
        assert_eq!(row.try_get::<i64>("", "organizations").unwrap(), 0);
        assert!(!row.try_get::<bool>("", "wrote").unwrap());
        sessions.push(session);
    }
    assert_eq!(backends.len(), connections);
    drop(sessions);
    for slug in ["acme", "globex"] {
        let data = app.user(&format!("{slug}-viewer")).data(QUERY).await;
        assert_eq!(data["organization"]["slug"], slug);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_requests_dropped_at_random_moments_leave_nothing_behind() {
    let app = App::start().await;
    let client = |n: u64| app.user(if n.is_multiple_of(2) { "acme-owner" } else { "globex-owner" });
    let mut seed = 42_u64;
    let requests = (0..100_u64).map(|n| {
        // A small generator: the moments are spread, and the same in each run.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros(seed >> 33) / 150_000;
        let client = client(n);
        async move {
            let text = if n.is_multiple_of(5) { CREATE } else { QUERY };
            let request = client.post().json(&json!({ "query": text })).timeout(wait);
            request.send().await.is_ok()
        }
    });
    let answered = futures_util::future::join_all(requests).await;
    let dropped = answered.iter().filter(|answered| !**answered).count();
    assert!(dropped >= 20, "only {dropped} were dropped, so the test shows nothing");
    assert_clean(&app, 4).await;
    // A dropped mutation was committed with its audit entry, or not at all.
    let app = &app.database;
    let made: i64 = app.value("SELECT count(*) FROM app.projects WHERE name = 'x'").await;
    let recorded: i64 =
        app.value("SELECT count(*) FROM audit.audit_logs WHERE metadata->>'name' = 'x'").await;
    assert_eq!(made, recorded);
}

#[tokio::test]
async fn a_session_dropped_while_it_opens_leaves_nothing_behind() {
    let app = App::start().await;
    // Warm up: the test interrupts the opening message, not the connection attempt.
    let user = caller("acme-owner", Some("acme"));
    let warm = (0..4).map(|_| open_as(&app, &user, None));
    drop(futures_util::future::join_all(warm).await);
    assert_clean(&app, 4).await;
    let (mut opened, mut cut) = (0, 0);
    for n in 0..400 {
        // Dropped after a number of wake-ups (which does not depend on the speed of the machine)
        // and of polls of the connection's task.
        let (wake_ups, polls) = (n % 4, n / 4 % 10);
        let mut opening = std::pin::pin!(open_as(&app, &user, None));
        let mut looks = 0;
        let session = std::future::poll_fn(|context| match opening.as_mut().poll(context) {
            Poll::Ready(session) => Poll::Ready(Some(session)),
            Poll::Pending if looks == wake_ups => Poll::Ready(None),
            Poll::Pending => {
                looks += 1;
                Poll::Pending
            }
        });
        if let Some(session) = session.await {
            session.unwrap();
            opened += 1;
        } else {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            cut += 1;
        }
    }
    assert!(opened > 50 && cut > 50, "{opened} opened, {cut} were cut, so the test shows nothing");
    assert_clean(&app, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_whose_client_disconnects_runs_to_its_end() {
    let app = App::start().await;
    let admin = app.database.connect_admin().await;
    admin.batch("BEGIN; SELECT FROM billing.organization_billing FOR UPDATE").await.unwrap();
    let request = app.user("acme-owner").post().json(&json!({ "query": CREATE }));
    let request = tokio::spawn(request.send());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND usename = 'tenantry_app' AND wait_event_type = 'Lock'";
    let start = Instant::now();
    while app.database.value::<i64>(waiting).await == 0 {
        assert!(start.elapsed() < HANG, "the mutation does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    request.abort();
    admin.batch("ROLLBACK").await.unwrap();
    while app.database.value::<i64>("SELECT count(*) FROM app.projects WHERE name = 'x'").await == 0
    {
        assert!(start.elapsed() < HANG, "the mutation was cancelled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_clean(&app, 4).await;
}

#[tokio::test]
async fn a_request_over_its_timeout_is_rolled_back() {
    let timeout = Duration::from_millis(200);
    let app = App::with(AppSettings { timeout, ..AppSettings::default() }).await;
    let admin = app.database.connect_admin().await;
    let lock = "BEGIN; LOCK TABLE audit.audit_logs IN ACCESS EXCLUSIVE MODE";
    admin.batch(lock).await.unwrap();
    for text in [CREATE, "{ organization { auditLogs { nodes { id } } } }"] {
        let reply = app.user("acme-owner").query(text).await;
        reply.assert_refused(504, "TIMEOUT");
        assert!(reply.headers.contains_key("retry-after"));
    }
    admin.batch("ROLLBACK").await.unwrap();
    assert_clean(&app, 4).await;
    let made: i64 = app.database.value("SELECT count(*) FROM app.projects WHERE name = 'x'").await;
    assert_eq!(made, 0);
}

#[tokio::test]
async fn without_a_free_connection_the_client_is_told_to_retry() {
    let app = App::with(AppSettings { max_connections: 1, ..AppSettings::default() }).await;
    let user = caller("acme-owner", Some("acme"));
    let session = open_as(&app, &user, None).await.unwrap().session;
    let reply = app.user("acme-owner").query(QUERY).await;
    reply.assert_refused(503, "UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"));
    drop(session);
    app.user("acme-owner").data(QUERY).await;
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_replaced_without_an_error() {
    let app = App::start().await;
    for _ in 0..3 {
        let queries = (0..8).map(|_| async { app.user("acme-owner").data(QUERY).await });
        futures_util::future::join_all(queries).await;
        let shot: i64 = app
            .database
            .value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND usename = 'tenantry_app'",
            )
            .await;
        assert!(shot > 0);
    }
    app.user("acme-owner").data(CREATE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_statement_delays_no_other_request() {
    let app = App::with(AppSettings { max_connections: 1, ..AppSettings::default() }).await;
    let backends = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'tenantry'";
    app.user("globex-viewer").data(QUERY).await;
    let before: Vec<i32> = app.database.value(backends).await;
    let admin = app.database.connect_admin().await;
    let lock = "BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE";
    admin.batch(lock).await.unwrap();
    // The failing sibling ends the wait for the count, which PostgreSQL continues.
    let text = "{ organization { projects { totalCount } members(first: -1) { nodes { id } } } }";
    assert_eq!(app.user("acme-owner").query(text).await.codes(), ["BAD_USER_INPUT"]);
    app.user("globex-viewer").data("{ organization { members { nodes { id } } } }").await;
    let after: Vec<i32> = app.database.value(backends).await;
    // The server opened another connection instead of waiting for the other statement.
    assert!(
        before.len() == 1 && after.iter().any(|pid| !before.contains(pid)),
        "{before:?} {after:?}"
    );
    admin.batch("ROLLBACK").await.unwrap();
    assert_clean(&app, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_under_a_running_server_causes_no_error() {
    let app = App::with(AppSettings { max_connections: 2, ..AppSettings::default() }).await;
    let user = caller("acme-owner", None);
    // Both connections have prepared the opening statement.
    let both = (open_as(&app, &user, None).await, open_as(&app, &user, None).await);
    assert!(both.0.is_ok() && both.1.is_ok());
    drop(both);
    assert_clean(&app, 2).await;
    app.database
        .execute("DO $do$ DECLARE definition text := replace(pg_get_functiondef('auth.open_request'::regproc),
                                                        'OUT role text', 'OUT role character varying');
             BEGIN
                 DROP FUNCTION auth.open_request;
                 EXECUTE definition;
                 ALTER FUNCTION auth.open_request OWNER TO tenantry_owner;
                 GRANT EXECUTE ON FUNCTION auth.open_request TO tenantry_app;
             END $do$")
        .await;
    assert_clean(&app, 2).await;
}

#[tokio::test]
async fn behind_a_pooler_no_statement_is_prepared() {
    let app = App::with(AppSettings { statement_cache: 0, ..AppSettings::default() }).await;
    app.user("acme-owner").data(CREATE).await;
    for slug in ["acme", "globex"] {
        let data = app.user(&format!("{slug}-viewer")).data(QUERY).await;
        assert_eq!(data["organization"]["slug"], slug);
    }
    let session = open_as(&app, &caller("acme-owner", None), None).await.unwrap().session;
    let sql = "SELECT count(*) AS n FROM pg_prepared_statements";
    let row = session.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    assert_eq!(row.unwrap().unwrap().try_get::<i64>("", "n").unwrap(), 0);
}

/// Panics in the middle of a request, at the log line of a statement.
struct PanicAt(&'static str);

impl<S: Subscriber> Layer<S> for PanicAt {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write;
                write!(self.0, "{value:?} ").unwrap();
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        assert!(!text.0.contains(self.0), "the planted panic");
    }
}

#[tokio::test]
async fn a_panic_in_a_request_rolls_back_and_reveals_nothing() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    {
        // With a single subscriber in the process, tracing would cache the interest of the first
        // thread: none.
        let _another = tracing::Dispatch::new(tracing_subscriber::registry());
        // The subscriber is for this thread only, on which the whole test runs.
        let subscriber = tracing_subscriber::registry().with(PanicAt("audit_logs"));
        let _guard = tracing::subscriber::set_default(subscriber);
        tracing::callsite::rebuild_interest_cache();
        for text in [CREATE, "{ organization { auditLogs { nodes { id } } } }"] {
            let reply = app.user("acme-owner").query(text).await;
            reply.assert_failed("INTERNAL");
            assert!(!reply.text.contains("planted"), "{reply:?}");
        }
    }
    assert_clean(&app, 4).await;
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn a_panic_while_a_session_opens_leaves_nothing_behind() {
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let broken = Arc::clone(&broken);
        Clock::from_fn(move || {
            // The verifier reads the clock first, outside any transaction.
            assert!(!broken.load(Ordering::Relaxed) || !in_transaction(), "the planted panic");
            Utc::now()
        })
    };
    let app = App::with(AppSettings { clock, ..AppSettings::default() }).await;
    broken.store(true, Ordering::Relaxed);
    for text in [QUERY, CREATE] {
        app.user("acme-owner").query(text).await.assert_failed("INTERNAL");
    }
    broken.store(false, Ordering::Relaxed);
    assert_clean(&app, 4).await;
}

/// Returns whether the call comes from the opening of a session.
fn in_transaction() -> bool {
    std::backtrace::Backtrace::force_capture().to_string().contains("tenancy::session")
}

#[tokio::test]
async fn introspection_opens_no_transaction() {
    let app = App::start().await;
    let full = async_graphql_introspection();
    for text in
        ["{ __typename }", "{ __schema { queryType { name } } }", &full, "mutation { __typename }"]
    {
        app.user("unknown-user").data(text).await;
    }
    let sessions: i64 = app
        .database
        .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tenantry'")
        .await;
    assert_eq!(sessions, 0, "no connection was ever opened");
    let users: i64 = app.database.value("SELECT count(*) FROM auth.identities").await;
    assert_eq!(users, 8, "no panic occurred");
}

/// Returns an introspection as deep as that of usual clients.
fn async_graphql_introspection() -> String {
    let mut kind = "kind name".to_owned();
    for _ in 0..9 {
        kind = format!("kind name ofType {{ {kind} }}");
    }
    format!(
        "query IntrospectionQuery {{ __schema {{ queryType {{ name }} types {{ ...FullType }}
             directives {{ name args {{ name type {{ {kind} }} }} }} }} }}
         fragment FullType on __Type {{ kind name fields(includeDeprecated: true) {{ name
             args {{ name type {{ {kind} }} defaultValue }} type {{ {kind} }} }} }}"
    )
}

#[tokio::test]
async fn a_query_sees_one_snapshot_and_cannot_write() {
    let app = App::start().await;
    let session = open_as(&app, &caller("acme-owner", Some("acme")), None).await.unwrap().session;
    let count = || async {
        let statement =
            Statement::from_string(DbBackend::Postgres, "SELECT count(*) AS n FROM projects");
        let row = session.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get::<i64>("", "n").unwrap()
    };
    assert_eq!(count().await, 4);
    app.database.execute("DELETE FROM app.projects").await;
    assert_eq!(count().await, 4);
    let write = session.execute_unprepared("DELETE FROM projects").await;
    assert!(write.unwrap_err().to_string().contains("read-only transaction"));
    assert_eq!(Error::from(count_error(&session).await).code(), ErrorCode::Internal);
    assert!(session.transaction().failure().is_some());
    session.transaction().roll_back().await;
    assert!(
        session.execute_unprepared("SELECT 1").await.is_err(),
        "a finished transaction runs nothing"
    );
}

#[tokio::test]
async fn a_failed_transaction_never_reports_a_commit() {
    let app = App::start().await;
    let user = caller("acme-owner", Some("acme"));
    let destination = Destination { slug: None, client_ip: None };
    let service = &app.service;
    let opened = open(
        &service.databases,
        &service.settings,
        &user,
        &destination,
        &OpenFor::Mutation { makes_several_changes: false },
    );
    let session = opened.await.unwrap().session;
    session.execute_unprepared("UPDATE projects SET name = 'lost'").await.unwrap();
    session.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    // PostgreSQL answers a bare COMMIT here with ROLLBACK, and reports success.
    assert!(session.transaction().commit().await.is_err());
    assert_clean(&app, 4).await;
    let lost: i64 =
        app.database.value("SELECT count(*) FROM app.projects WHERE name = 'lost'").await;
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn the_cause_of_a_failure_is_known_whichever_result_is_read_first() {
    // Without prepared statements, each statement is one message with one response.
    let app = App::with(AppSettings { statement_cache: 0, ..AppSettings::default() }).await;
    let session = open_as(&app, &caller("acme-owner", None), None).await.unwrap().session;
    let mut cause = session.execute_unprepared("DO $$ BEGIN RAISE serialization_failure; END $$");
    let mut consequence = session.execute_unprepared("SELECT 1");
    assert!(futures_util::poll!(cause.as_mut()).is_pending());
    assert!(futures_util::poll!(consequence.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_millis(100)).await;
    // As in a join whose first half was polled too early: an error here would end the wait for the
    // other half.
    assert!(futures_util::poll!(consequence.as_mut()).is_pending());
    cause.await.unwrap_err();
    let failure = Error::from(session.transaction().failure().unwrap());
    assert_eq!(failure.code(), ErrorCode::Unavailable);
    consequence.await.unwrap_err();
    session.transaction().roll_back().await;
}

async fn count_error(session: &tenantry::tenancy::Session) -> sea_orm::DbErr {
    session.execute_unprepared("SELECT 1").await.unwrap_err()
}

fn arbitrary_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9-]{0,50}",
        Just("'); DROP TABLE app.projects; --".to_owned()),
        Just("$1 $$ \\x00 \\ ' \" `".to_owned()),
        Just("acme' OR '1'='1".to_owned()),
        Just("\0".to_owned()),
        Just("acme\0".to_owned()),
        Just("\u{202e}emca \u{1f980} \u{feff}".to_owned()),
        Just("x".repeat(10_000)),
        Just("'".repeat(10_000)),
    ]
}

#[tokio::test]
async fn subjects_and_slugs_with_any_characters_are_plain_text() {
    let app = App::start().await;
    let shape = "SELECT count(*) FROM app.projects";
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let strategy = (
        arbitrary_text(),
        arbitrary_text(),
        proptest::option::of(arbitrary_text()),
        proptest::option::of(arbitrary_text()),
    );
    for _ in 0..150 {
        let (issuer, subject, slug, claim) = strategy.new_tree(&mut runner).unwrap().current();
        // The verifier accepts bounded strings without NUL.
        let identity = |text: String| text.replace('\0', "").chars().take(250).collect::<String>();
        let caller = Caller {
            expires_at: chrono::DateTime::<Utc>::MAX_UTC,
            issuer: identity(issuer),
            subject: identity(subject),
            organization: claim.clone(),
            ..Caller::default()
        };
        match open_as(&app, &caller, slug.as_deref()).await {
            Ok(opened) => {
                assert!(slug.is_none() && claim.is_none(), "{slug:?} {claim:?} was accepted");
                let reading = opened.session.authorize(Permission::OrganizationRead);
                assert_eq!(reading.unwrap_err().code(), ErrorCode::OrganizationRequired);
            }
            Err(error) => {
                let expected = [ErrorCode::NotFound, ErrorCode::OrganizationMismatch];
                assert!(expected.contains(&error.code()), "{caller:?} {slug:?}: {error:?}");
            }
        }
        let stored: i64 = app
            .database
            .connect_admin()
            .await
            .query_one(
                "SELECT count(*) FROM auth.identities WHERE issuer = $1 AND subject = $2",
                &[&caller.issuer, &caller.subject],
            )
            .await
            .unwrap();
        assert_eq!(stored, 1, "{caller:?} has exactly one identity");
    }
    assert_eq!(app.database.value::<i64>(shape).await, 6);
    assert_clean(&app, 4).await;
}
