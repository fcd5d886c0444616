//! The cost of many organizations with few requests each, counted instead of timed: transactions
//! that write, and tables that an opening touches.

use std::time::Duration;

use entity::{OrganizationId, PlanTerms, SubscriptionStatus};
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{
    App, AppSettings, HANG, Reply, app::token_with, database::Database, placement,
};

const SEED: &str = include_str!("../../benches/load/seed.sql");
const QUERY: &str = "{ organization { projects(first: 3) { nodes { name } } } }";

/// The number of transactions that have written the counts of calls.
const WRITES: &str = "SELECT count(DISTINCT xmin::text) FROM billing.usage";

/// Tokens without a time, so that nothing has to be recorded first.
fn token(subject: &str) -> String {
    token_with(&json!({ "sub": subject, "exp": 4_000_000_000_u64 }))
}

async fn seeded(organizations: i64) -> Database {
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    admin.batch(&SEED.replace(":organizations", &organizations.to_string())).await.unwrap();
    admin.batch("ANALYZE").await.unwrap();
    database
}

/// Sends a query in each organization.
async fn query_each(app: &App, organizations: i64) {
    stream::iter(1..=organizations)
        .for_each_concurrent(16, |n| async move {
            let token = token(&format!("user-{n}-1"));
            app.client(Some(&format!("org-{n}")), Some(token)).data(QUERY).await;
        })
        .await;
}

#[tokio::test]
async fn a_thousand_organizations_share_the_transactions_that_count_their_calls() {
    let database = seeded(1_000).await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    query_each(&app, 16).await;
    assert_eq!(database.value::<i64>(WRITES).await, 0, "without a limit nothing is leased");
    query_each(&app, 1_000).await;
    app.service.meter.give_back().await;
    // About four. On a slow machine, some calls turn five minutes old and are written before.
    let writes: i64 = database.value(WRITES).await;
    assert!(writes <= 100, "{writes} transactions wrote the calls of 1,000 organizations");
    let used = "SELECT count(*), sum(used)::bigint FROM billing.usage";
    assert_eq!(database.value::<(i64, i64)>(used).await, (1_000, 1_016), "each call once");
}

/// The terms of an organization without a limit.
fn unlimited() -> PlanTerms {
    PlanTerms {
        plan: "enterprise".to_owned(),
        status: SubscriptionStatus::Active,
        has_subscription: false,
        period_start: None,
        period_end: None,
        trial_ends_at: None,
        cancel_at_period_end: false,
        past_due_since: None,
        paid_until: None,
        has_exceptions: false,
        updated_at: chrono::Utc::now(),
    }
}

/// Waits until the server has read the plan catalogue.
async fn wait_for_catalogue(app: &App) {
    let terms = unlimited();
    let organization = OrganizationId::new();
    app.service.meter.learn(organization, &terms);
    while !app.service.meter.is_ready(organization, Some(terms.updated_at)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The limit of calls in a response.
fn limit(reply: &Reply) -> Option<&str> {
    reply.headers.get("ratelimit-limit").map(|limit| limit.to_str().unwrap())
}

#[tokio::test]
async fn a_first_request_looks_up_no_limit() {
    let database = seeded(3).await;
    let plan = "UPDATE billing.organization_billing SET plan = 'pro'
                WHERE organization_id = (SELECT id FROM app.organizations WHERE slug = 'org-2')";
    database.execute(plan).await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    wait_for_catalogue(&app).await;
    let query = async |n| {
        let token = token(&format!("user-{n}-1"));
        let query = app.client(Some(&format!("org-{n}")), Some(token));
        let reply = tokio::time::timeout(HANG, query.query(QUERY)).await.unwrap();
        limit(&reply).map(str::to_owned)
    };
    let admin = database.connect_admin().await;
    // Nothing can be looked up, and nothing leased.
    let lock =
        "BEGIN; LOCK TABLE billing.organization_features, billing.usage IN ACCESS EXCLUSIVE MODE";
    admin.batch(lock).await.unwrap();
    assert_eq!(query(1).await, None);
    admin.batch("ROLLBACK; BEGIN; LOCK TABLE billing.organization_features").await.unwrap();
    assert_eq!(query(2).await.as_deref(), Some("50000"), "a lease needs no look-up");
    admin.batch("ROLLBACK").await.unwrap();
    database
        .execute(
            "INSERT INTO billing.organization_features (organization_id, feature, limit_value)
             SELECT id, 'api_calls_per_month', 7 FROM app.organizations",
        )
        .await;
    for n in 1..=3 {
        assert_eq!(query(n).await.as_deref(), Some("7"), "an exception is looked up");
    }
}

/// A server that has read the plan catalogue, and the only organization.
async fn with_one_organization() -> (App, OrganizationId) {
    let app = App::on(seeded(1).await, AppSettings::default()).await;
    wait_for_catalogue(&app).await;
    let id: String = app.database.value("SELECT id::text FROM app.organizations").await;
    (app, OrganizationId(id.parse().unwrap()))
}

#[tokio::test]
async fn a_call_that_has_read_no_terms_is_limited_by_the_current_ones() {
    let (app, organization) = with_one_organization().await;
    let meter = &app.service.meter;
    meter.learn(organization, &unlimited());
    // Another server downgrades the organization. A query at the replica reads no terms.
    app.database.execute("UPDATE billing.organization_billing SET plan = 'pro'").await;
    let rate = meter.count(organization, None).await.unwrap();
    assert_eq!(rate.map(|rate| rate.limit), Some(50_000));
}

#[tokio::test]
async fn the_thousandth_call_without_a_limit_writes_them_all() {
    let (app, organization) = with_one_organization().await;
    let (meter, terms) = (&app.service.meter, unlimited());
    meter.learn(organization, &terms);
    let count = async || {
        let limit = meter.count(organization, Some(terms.updated_at)).await.unwrap();
        assert!(limit.is_none(), "{limit:?}");
    };
    let used = "SELECT coalesce(sum(used), 0)::bigint FROM billing.usage";
    for _ in 1..1_000 {
        count().await;
    }
    assert_eq!(app.database.value::<i64>(used).await, 0);
    count().await;
    let written = async {
        while app.database.value::<i64>(used).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, written).await.expect("the last call should write them");
    assert_eq!(app.database.value::<i64>(used).await, 1_000);
}

/// Waits until a transaction waits for a lock.
async fn wait_for_waiting(database: &Database) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock'";
    while database.value::<i64>(waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn many_organizations_that_need_their_own_transactions_lose_no_calls_at_shutdown() {
    let database = seeded(150).await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    query_each(&app, 150).await;
    app.service.meter.give_back().await;
    query_each(&app, 150).await;
    // As another server that writes the calls of all of them.
    let admin = database.connect_admin().await;
    admin.batch("BEGIN; SELECT FROM billing.usage FOR UPDATE").await.unwrap();
    let unlock = async {
        wait_for_waiting(&database).await;
        admin.batch("ROLLBACK").await.unwrap();
    };
    futures_util::join!(app.service.meter.give_back(), unlock);
    let used = "SELECT count(*), sum(used)::bigint FROM billing.usage";
    assert_eq!(database.value::<(i64, i64)>(used).await, (150, 300));
}

#[tokio::test]
async fn an_organization_that_is_being_deleted_does_not_delay_the_leases_of_others() {
    let database = seeded(2).await;
    database.execute("UPDATE billing.organization_billing SET plan = 'pro'").await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    let query = async |n| {
        let token = token(&format!("user-{n}-1"));
        app.client(Some(&format!("org-{n}")), Some(token)).query(QUERY).await
    };
    let admin = database.connect_admin().await;
    let delete = "BEGIN; DELETE FROM app.organizations WHERE slug = 'org-2'";
    admin.batch(delete).await.unwrap();
    let other = async {
        wait_for_waiting(&database).await;
        tokio::time::timeout(HANG, query(1)).await.unwrap().data();
        let leased = "SELECT count(*) FROM billing.usage WHERE used = 1000";
        assert_eq!(database.value::<i64>(leased).await, 1, "while the deletion is under way");
        admin.batch("ROLLBACK").await.unwrap();
    };
    futures_util::join!(query(2), other);
}

#[tokio::test]
async fn a_deleted_organization_does_not_affect_the_calls_written_with_its_own() {
    let database = seeded(2).await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    query_each(&app, 2).await;
    let admin = database.connect_admin().await;
    let delete = "BEGIN; DELETE FROM app.organizations WHERE slug = 'org-2'";
    admin.batch(delete).await.unwrap();
    let used = "SELECT coalesce(sum(used), 0)::bigint FROM billing.usage";
    let other = async {
        wait_for_waiting(&database).await;
        assert_eq!(database.value::<i64>(used).await, 1, "while the deletion is under way");
        admin.batch("COMMIT").await.unwrap();
    };
    futures_util::join!(app.service.meter.give_back(), other);
    assert_eq!(database.value::<i64>(used).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_that_lease_at_the_same_time_share_a_transaction() {
    let database = seeded(60).await;
    database.execute("UPDATE billing.organization_billing SET plan = 'pro'").await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    let admin = database.connect_admin().await;
    // The COMMIT of the first lease waits.
    let wait = "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON billing.usage DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.wait();
        SELECT pg_advisory_lock(42)";
    admin.batch(wait).await.unwrap();
    let answered = query_each(&app, 16);
    let unlock = async {
        wait_for_waiting(&database).await;
        // Every other server process is idle again: the remaining leases are queued.
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock' AND pid <> pg_backend_pid()";
        let mut quiet = 0;
        while quiet < 10 {
            quiet = if database.value::<i64>(busy).await == 0 { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        admin.batch("SELECT pg_advisory_unlock(42)").await.unwrap();
    };
    futures_util::join!(answered, unlock);
    let writes: i64 = database.value(WRITES).await;
    assert!(writes <= 8, "{writes} transactions wrote the leases of 16 organizations");
    let leased = "SELECT count(*) FROM billing.usage WHERE used = 1000";
    assert_eq!(database.value::<i64>(leased).await, 16);
}

/// Opens a session as a server does, and returns the tables that the transaction has locked.
async fn tables_of(database: &Database, access: &str, opening: &str) -> Vec<String> {
    let connection = database.connect_app().await;
    connection.batch(&format!("BEGIN {access}")).await.unwrap();
    let opened: bool = connection.query_one(&format!("SELECT {opening}"), &[]).await.unwrap();
    assert!(opened, "{opening}");
    let tables = "SELECT c.relname::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relnamespace <> 'pg_catalog'::regnamespace
        ORDER BY c.relname COLLATE \"C\"";
    connection.query(tables, &[]).await.unwrap()
}

#[tokio::test]
async fn an_opening_touches_few_tables() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let open = database.proven("acme-owner", "acme", 0).await;
    let opening = format!("outcome = 'OK' FROM auth.open_request({open})");
    let tables = ["identities", "organization_lookup", "organization_members", "proof_keys"];
    for access in ["READ ONLY", "READ WRITE"] {
        assert_eq!(tables_of(&database, access, &opening).await, tables);
    }
    let reopening = database.reopening("acme-owner", "acme").await;
    assert_eq!(tables_of(&database, "READ ONLY", &reopening).await, tables);
}

#[tokio::test]
async fn a_session_is_opened_once_and_then_reopened() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    database
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = pl', current_database()); END $$",
        )
        .await;
    let app =
        App::on(database.clone(), AppSettings { max_connections: 1, ..AppSettings::default() })
            .await;
    let owner = app.client(Some("acme"), Some(token("acme-owner")));
    for _ in 0..5 {
        owner.data(QUERY).await;
    }
    let calls = "SELECT coalesce(sum(calls) FILTER (WHERE funcname = 'reopen_request'), 0)::bigint,
            coalesce(sum(calls) FILTER (WHERE funcname = 'open_request'), 0)::bigint
        FROM pg_stat_user_functions";
    // PostgreSQL publishes its statistics with a delay of up to ten seconds. The first opening may
    // be repeated after the server has registered its key.
    let started = std::time::Instant::now();
    let mut counted = (0, 0);
    while counted.0 < 4 && started.elapsed() < HANG {
        tokio::time::sleep(Duration::from_millis(100)).await;
        counted = database.value::<(i64, i64)>(calls).await;
    }
    assert!(counted.0 == 4 && counted.1 <= 2, "{counted:?}");
}
