//! Calls of a month: exact over any number of servers, and rejected before anything is resolved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::clock::Clock;

use crate::support::{
    App, AppSettings, Client, HANG, Reply, app, database::Database, placement::GLOBEX,
};

const CALL: &str = "{ organization { name } }";

async fn limit(database: &Database, plan: &str, limit: i64) {
    database
        .execute(&format!(
            "UPDATE billing.plan_features SET limit_value = {limit}
             WHERE plan = '{plan}' AND feature = 'api_calls_per_month'"
        ))
        .await;
}

/// A server that starts with this limit of the free plan. A running one obeys a change later.
async fn app_with_limit(calls: i64, settings: AppSettings) -> App {
    let database = Database::create().await;
    limit(&database, "free", calls).await;
    App::on(database, settings).await
}

/// Returns the used calls in the table, which include leased ones.
async fn leased(database: &Database) -> i64 {
    database.value("SELECT coalesce(sum(used), 0)::bigint FROM billing.usage").await
}

async fn entitlement(client: &Client) -> Value {
    let query = "{ organization { entitlements { feature { key } enabled limit used remaining overLimit resetsAt } } }";
    let data = client.data(query).await;
    data["organization"]["entitlements"][2].clone()
}

fn header(reply: &Reply, name: &str) -> i64 {
    reply.headers[name].to_str().unwrap().parse().unwrap()
}

fn assert_exhausted(reply: &Reply) {
    reply.assert_refused(429, "PLAN_LIMIT_EXCEEDED");
    let extensions = &reply.body["errors"][0]["extensions"];
    assert_eq!(extensions["feature"], "api_calls_per_month", "{reply:?}");
    assert_eq!(header(reply, "ratelimit-remaining"), 0);
    let (retry, reset) = (header(reply, "retry-after"), header(reply, "ratelimit-reset"));
    assert_eq!(retry, reset);
    assert!((1..=31 * 86_400).contains(&reset), "{reset}");
}

/// Returns how many calls succeeded. The others must fail at the limit.
async fn successful_calls(client: &Client, calls: usize) -> usize {
    let mut successful_calls = 0;
    for _ in 0..calls {
        let reply = client.query(CALL).await;
        if reply.status == 200 {
            reply.data();
            successful_calls += 1;
        } else {
            assert_exhausted(&reply);
        }
    }
    successful_calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_together_never_exceed_the_limit() {
    let database = Database::create().await;
    limit(&database, "free", 200).await;
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(App::on(database.clone(), AppSettings::default()).await);
    }
    let users: Vec<_> = apps
        .iter()
        .flat_map(|app| {
            ["owner", "admin", "viewer"].map(|role| app.user(&format!("globex-{role}")))
        })
        .collect();
    let first =
        futures_util::future::join_all(users.iter().map(|user| successful_calls(user, 20))).await;
    assert_eq!(first.iter().sum::<usize>(), 180, "no call fails while the limit has room");
    let second =
        futures_util::future::join_all(users.iter().map(|user| successful_calls(user, 20))).await;
    assert_eq!(second.iter().sum::<usize>(), 20, "and not one more");
    assert_eq!(leased(&database).await, 200);
}

#[tokio::test]
async fn a_stopped_server_returns_its_lease_and_a_killed_one_loses_it() {
    let database = Database::create().await;
    limit(&database, "free", 320).await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    assert_eq!(successful_calls(&app.user("globex-owner"), 5).await, 5);
    assert_eq!(leased(&database).await, 20, "a sixteenth call");
    app.background.stop().await;
    assert_eq!(leased(&database).await, 5, "exactly what was used");
    let dead = App::on(database.clone(), AppSettings::default()).await;
    assert_eq!(successful_calls(&dead.user("globex-owner"), 1).await, 1);
    drop(dead);
    let app = App::on(database.clone(), AppSettings::default()).await;
    assert_eq!(successful_calls(&app.user("globex-owner"), 320).await, 320 - 5 - 315 / 16);
}

#[tokio::test]
async fn only_executed_operations_of_members_count() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    let reply = owner.query(CALL).await;
    assert_eq!(
        (header(&reply, "ratelimit-limit"), header(&reply, "ratelimit-remaining")),
        (1_000, 999)
    );
    for free in [
        "{ __typename }",
        "{ organization { nothing } }",
        "{",
        "{ __schema { queryType { name } } }",
    ] {
        let reply = owner.query(free).await;
        assert!(!reply.headers.contains_key("ratelimit-limit"), "{free}");
    }
    let outsider = app.client(Some("globex"), Some(app::token("acme-owner")));
    outsider.query(CALL).await.assert_refused(404, "NOT_FOUND");
    let nowhere = app.client(None, Some(app::token("globex-owner")));
    assert!(!nowhere.query("{ viewer { id } }").await.headers.contains_key("ratelimit-limit"));
    // A failed operation was executed, and each operation of a batch counts.
    owner
        .query("mutation { deleteProject(input: { id: \"x\" }) { project { id } } }")
        .await
        .assert_failed("NOT_FOUND");
    let batch = owner.send(&json!([{ "query": CALL }, { "query": CALL }, { "query": "{" }])).await;
    assert_eq!(header(&batch, "ratelimit-remaining"), 996);
    let expected = json!({ "feature": { "key": "api_calls_per_month" }, "enabled": true, "limit": 1_000, "used": 5,
        "remaining": 995, "overLimit": false });
    let mut entitlement = entitlement(&owner).await;
    assert!(entitlement["resetsAt"].take().as_str().unwrap().ends_with("-01T00:00:00+00:00"));
    entitlement.as_object_mut().unwrap().remove("resetsAt");
    assert_eq!(entitlement, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_holds_no_connection_while_its_calls_are_leased() {
    let app = App::with(AppSettings { max_connections: 1, ..AppSettings::default() }).await;
    app.user("acme-owner").data(CALL).await;
    let admin = app.database.connect_admin().await;
    let lock = "BEGIN; LOCK TABLE billing.usage IN ACCESS EXCLUSIVE MODE";
    admin.batch(lock).await.unwrap();
    let first = app.user("globex-owner");
    let first = tokio::spawn(async move { first.query(CALL).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock'";
    while app.database.value::<i64>(waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The only connection is free.
    app.user("acme-owner").data(CALL).await;
    assert!(!first.is_finished(), "the response waits for the count");
    admin.batch("ROLLBACK").await.unwrap();
    let first = first.await.unwrap();
    assert_eq!(header(&first, "ratelimit-remaining"), 999);
    first.data();
}

#[tokio::test]
async fn a_call_over_the_limit_resolves_nothing() {
    let app = app_with_limit(1, AppSettings::default()).await;
    let owner = app.user("globex-owner");
    assert_eq!(successful_calls(&owner, 1).await, 1);
    let before = app.database.fingerprint().await;
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    assert_exhausted(&owner.query(create).await);
    assert_eq!(app.database.fingerprint().await, before);
    // The owner can still choose a larger plan.
    let upgrade = "mutation { changePlan(input: { plan: \"pro\" }) { billing { plan { key } } } }";
    app.user("globex-admin").query(upgrade).await.assert_failed("FORBIDDEN");
    let both = "mutation { changePlan(input: { plan: \"pro\" }) { billing { plan { key } } } createProject(input: { name: \"x\" }) { project { id } } }";
    assert_exhausted(&owner.query(both).await);
    let reading = "mutation { changePlan(input: { plan: \"free\" }) { billing { plan { key } } } query { organization { name } } }";
    assert_exhausted(&owner.query(reading).await);
    let reply = owner.query(upgrade).await;
    assert_eq!(header(&reply, "ratelimit-remaining"), 0);
    reply.data();
    assert_eq!(successful_calls(&owner, 2).await, 2);
    owner
        .query("mutation { changePlan(input: { plan: \"free\" }) { billing { plan { key } } } }")
        .await
        .data();
    assert_exhausted(&owner.query(CALL).await);
    // An outsider gets the usual response.
    let outsider = app.client(Some("globex"), Some(app::token("acme-owner")));
    outsider.query(CALL).await.assert_refused(404, "NOT_FOUND");
    owner.data("{ __schema { queryType { name } } }").await;
    let batch = owner.send(&json!([{ "query": CALL }, { "query": "{ __typename }" }])).await;
    assert_eq!(batch.status, 200, "{batch:?}");
    assert_eq!(batch.body[0]["errors"][0]["extensions"]["code"], "PLAN_LIMIT_EXCEEDED");
    assert_eq!(batch.body[1]["data"]["__typename"], "Query");
}

/// Waits until a call is answered under this limit. Returns how many calls that took.
async fn calls_until_limit(owner: &Client, limit: i64) -> i64 {
    let start = std::time::Instant::now();
    let mut calls = 1;
    loop {
        let now = header(&owner.query(CALL).await, "ratelimit-limit");
        if now == limit {
            return calls;
        }
        calls += 1;
        assert!(start.elapsed() < HANG, "{now} is not {limit}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_new_limit_takes_effect_without_a_restart_and_a_new_plan_at_once() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    assert_eq!(successful_calls(&owner, 3).await, 3);
    limit(&app.database, "free", 2).await;
    let calls = 2 + calls_until_limit(&owner, 2).await;
    assert_exhausted(&owner.query(CALL).await);
    assert_eq!(leased(&app.database).await, calls, "the rest of the old lease is returned");
    // Most of the lease is left, so only the new plan can cause another one.
    limit(&app.database, "free", 4_000).await;
    calls_until_limit(&owner, 4_000).await;
    let plan = "mutation { changePlan(input: { plan: \"pro\" }) { billing { plan { key } } } }";
    let reply = owner.query(plan).await;
    assert_eq!(header(&reply, "ratelimit-limit"), 4_000);
    let used = 4_000 - header(&reply, "ratelimit-remaining");
    reply.data();
    let reply = owner.query(CALL).await;
    assert_eq!(
        (header(&reply, "ratelimit-limit"), header(&reply, "ratelimit-remaining")),
        (50_000, 50_000 - used - 1)
    );
    app.database
        .execute("UPDATE billing.plan_features SET enabled = false WHERE plan = 'pro' AND feature = 'api_calls_per_month'")
        .await;
    calls_until_limit(&owner, 0).await;
    assert_exhausted(&owner.query(CALL).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_written_delays_no_other_organization_and_loses_no_call() {
    let app = App::start().await;
    let database = &app.database;
    database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let sum = async |slug: &str| -> i64 {
        let sql = format!(
            "SELECT coalesce(sum(u.used), 0)::bigint FROM billing.usage u
             JOIN app.organizations o ON o.id = u.organization_id WHERE o.slug = '{slug}'"
        );
        database.value(&sql).await
    };
    for (slug, calls) in [("acme", 3), ("globex", 5)] {
        let owner = app.user(&format!("{slug}-owner"));
        assert_eq!(successful_calls(&owner, calls).await, calls);
    }
    let fail = format!(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'this row is damaged'; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON billing.usage FOR EACH ROW
             WHEN (NEW.organization_id = '{GLOBEX}') EXECUTE FUNCTION public.fail()"
    );
    database.execute(&fail).await;
    app.service.meter.give_back().await;
    assert_eq!((sum("acme").await, sum("globex").await), (3, 0));
    // The calls are still counted, and are written when the row can be.
    assert_eq!(entitlement(&app.user("globex-owner")).await["used"], 6);
    database.execute("DROP TRIGGER fail ON billing.usage").await;
    app.background.stop().await;
    assert_eq!((sum("acme").await, sum("globex").await), (3, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_commit_has_an_unknown_outcome_fails_the_request_as_not_executed() {
    let app = App::start().await;
    let database = &app.database;
    // The connection ends at the COMMIT, so the server cannot know its outcome.
    database
        .execute(
            "CREATE FUNCTION public.cut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON billing.usage DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION public.cut()",
        )
        .await;
    let owner = app.user("globex-owner");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let before = database.fingerprint().await;
    for document in [CALL, create] {
        let reply = owner.query(document).await;
        assert_eq!(reply.codes(), ["UNAVAILABLE"], "{reply:?}");
        let outcome = &reply.body["errors"][0]["extensions"]["outcome"];
        assert_eq!(*outcome, Value::Null, "the operation itself was not begun: {reply:?}");
    }
    assert_eq!(database.fingerprint().await, before);
    database.execute("DROP TRIGGER cut ON billing.usage").await;
    let reply = owner.query(create).await;
    assert_eq!(header(&reply, "ratelimit-remaining"), 999, "no call was lost");
    reply.data();
}

#[tokio::test]
async fn unlimited_calls_are_counted() {
    let app = App::start().await;
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let owner = app.user("globex-owner");
    for _ in 0..6 {
        let reply = owner.query(CALL).await;
        assert!(!reply.headers.contains_key("ratelimit-limit"), "{reply:?}");
        reply.data();
    }
    let entitlement = entitlement(&owner).await;
    assert_eq!((&entitlement["limit"], &entitlement["used"]), (&Value::Null, &json!(7)));
    // Written to the table, and counted on from there without another lease.
    app.service.meter.give_back().await;
    assert_eq!(leased(&app.database).await, 7);
    for _ in 0..3 {
        owner.query(CALL).await.data();
    }
    assert_eq!(leased(&app.database).await, 7);
    assert_eq!(self::entitlement(&owner).await["used"], 11);
    app.background.stop().await;
    assert_eq!(leased(&app.database).await, 11);
}

#[tokio::test]
async fn the_days_of_a_month_add_up_to_its_calls() {
    let app = App::start().await;
    app.database
        .execute("UPDATE billing.organization_billing SET plan = 'enterprise' WHERE plan = 'pro'")
        .await;
    let query = "{ organization { usage(feature: \"api_calls_per_month\") { used days } } }";
    // A plan with a limit, of which a block is leased, and one without, which writes later.
    for user in ["globex-owner", "acme-owner"] {
        let user = app.user(user);
        for call in 1..=3 {
            let data = user.data(query).await;
            let period = &data["organization"]["usage"][0];
            let days = period["days"].as_array().into_iter().flatten();
            let sum: i64 = days.map(|day| day.as_i64().unwrap()).sum();
            assert_eq!(sum, period["used"].as_i64().unwrap_or(0), "call {call}: {data}");
        }
    }
    app.background.stop().await;
    let sums = "SELECT count(*) FROM billing.usage
                WHERE used = 3 AND used = (SELECT sum(day) FROM unnest(days) day)";
    assert_eq!(app.database.value::<i64>(sums).await, 2, "what was not used is given back");
}

#[tokio::test]
async fn a_new_month_resets_the_count_and_a_trial_ends_by_itself() {
    let start: DateTime<Utc> = "2030-01-31T12:00:00Z".parse().unwrap();
    let hours = Arc::new(AtomicI64::new(0));
    let clock = {
        let hours = Arc::clone(&hours);
        Clock::from_fn(move || start + TimeDelta::hours(hours.load(Ordering::Relaxed)))
    };
    let app = app_with_limit(2, AppSettings { clock, ..AppSettings::default() }).await;
    let claims = json!({ "sub": "globex-owner", "exp": 4_000_000_000_i64 });
    let owner = app.client(Some("globex"), Some(app::token_with(&claims)));
    assert_eq!(successful_calls(&owner, 4).await, 2);
    hours.store(11, Ordering::Relaxed);
    let reply = owner.query(CALL).await;
    assert_exhausted(&reply);
    assert_eq!(header(&reply, "retry-after"), 3_601);
    hours.store(12, Ordering::Relaxed);
    assert_eq!(successful_calls(&owner, 1).await, 1, "a new month");
    owner
        .query("mutation { startTrial(input: { plan: \"pro\" }) { billing { plan { key } } } }")
        .await
        .data();
    assert_eq!(header(&owner.query(CALL).await, "ratelimit-limit"), 50_000);
    hours.store(12 + 14 * 24, Ordering::Relaxed);
    assert_exhausted(&owner.query(CALL).await);
    let months: i64 = app.database.value("SELECT count(*) FROM billing.usage").await;
    assert_eq!(months, 2);
}
