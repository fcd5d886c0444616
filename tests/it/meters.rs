//! Meters of a team's features: exact over any number of servers, and counted once for each
//! idempotency key.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::clock::Clock;

use crate::support::{
    App, AppSettings, Client, Reply, app,
    database::Database,
    placement::{ACME, GLOBEX},
};

/// Adds meters: the plan pro allows 10 exports a month and 10 renders in a billing period.
const METERS: &str =
    "INSERT INTO billing.features (feature, kind, name, period, position) VALUES
         ('exports', 'meter', 'Exports', 'month', 4), ('renders', 'meter', 'Renders', 'billing_period', 5),
         ('sso', 'flag', 'Single sign-on', NULL, 6);
     INSERT INTO billing.plan_features (plan, feature, limit_value) VALUES
         ('pro', 'exports', 10), ('pro', 'renders', 10), ('enterprise', 'exports', NULL)";

async fn metered() -> App {
    let app = App::start().await;
    app.database.execute(METERS).await;
    app
}

async fn count(client: &Client, field: &str, input: Value) -> Reply {
    let input_type = field[..1].to_uppercase() + &field[1..] + "Input";
    let document = format!(
        "mutation ($input: {input_type}!) {{ {field}(input: $input) {{
             entitlement {{ feature {{ key }} limit used remaining overLimit resetsAt }} }} }}"
    );
    client.query_with(&document, json!({ "input": input })).await
}

async fn consume(client: &Client, amount: i64) -> Reply {
    count(client, "consumeUsage", json!({ "feature": "exports", "amount": amount })).await
}

/// Returns the used number after the mutation.
fn used(reply: Reply, field: &str) -> i64 {
    reply.data()[field]["entitlement"]["used"].as_i64().unwrap()
}

async fn stored(database: &Database, feature: &str) -> i64 {
    let sql = format!(
        "SELECT coalesce(sum(used), 0)::bigint FROM billing.usage WHERE feature = '{feature}'"
    );
    database.value(&sql).await
}

#[tokio::test]
async fn usage_is_counted_up_to_the_limit_and_beyond_it_only_when_it_is_recorded() {
    let app = metered().await;
    let admin = app.user("acme-admin");
    let reply = consume(&admin, 7).await.data();
    let entitlement = &reply["consumeUsage"]["entitlement"];
    assert_eq!(
        [&entitlement["feature"]["key"], &entitlement["used"], &entitlement["remaining"]],
        [&json!("exports"), &json!(7), &json!(3)]
    );
    let reply = consume(&admin, 4).await;
    reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    let extensions = &reply.body["errors"][0]["extensions"];
    assert_eq!((&extensions["feature"], &extensions["limit"]), (&json!("exports"), &json!(10)));
    assert_eq!(stored(&app.database, "exports").await, 7, "nothing of it is counted");
    assert_eq!(used(consume(&admin, 3).await, "consumeUsage"), 10);
    consume(&admin, 1).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let input = json!({ "feature": "exports", "amount": "5" });
    let reply = count(&admin, "recordUsage", input).await.data();
    let entitlement = &reply["recordUsage"]["entitlement"];
    assert_eq!(
        [&entitlement["used"], &entitlement["remaining"], &entitlement["overLimit"]],
        [&json!(15), &json!(0), &json!(true)]
    );
    // Other organizations are not affected, and an unlimited plan refuses nothing.
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let globex = app.user("globex-owner");
    assert_eq!(
        used(consume(&globex, 9_007_199_254_740_991).await, "consumeUsage"),
        9_007_199_254_740_991
    );
    assert_eq!(
        used(consume(&globex, 5).await, "consumeUsage"),
        9_007_199_254_740_991,
        "it stays there"
    );
}

#[tokio::test]
async fn usage_is_listed_by_day() {
    let app = metered().await;
    let (admin, viewer) = (app.user("acme-admin"), app.user("acme-viewer"));
    // As if the period had begun yesterday: today is its second day.
    let begin = "UPDATE billing.usage SET period_start = now() - interval '30 hours', days = '{4}'
                 WHERE feature = 'exports'";
    let days = async || {
        let query = "{ organization { usage(feature: \"exports\") { used days } } }";
        viewer.data(query).await["organization"]["usage"].clone()
    };
    assert_eq!(used(consume(&admin, 4).await, "consumeUsage"), 4);
    let first = days().await;
    let all = first[0]["days"].as_array().unwrap();
    assert_eq!((all.last(), &first[0]["used"]), (Some(&json!(4)), &json!(4)));
    assert!(all.len() <= 31 && all[..all.len() - 1].iter().all(|day| day == 0), "{first}");
    app.database.execute(begin).await;
    let change = async |change: i64| {
        let sql =
            format!("UPDATE billing.usage SET used = used + {change} WHERE feature = 'exports'");
        app.database.execute(&sql).await;
    };
    change(5).await;
    assert_eq!(days().await, json!([{ "used": 9, "days": [4, 5] }]));
    change(-6).await;
    assert_eq!(days().await, json!([{ "used": 3, "days": [3] }]));
    change(-3).await;
    assert_eq!(days().await, json!([{ "used": 0, "days": [] }]));
}

#[tokio::test]
async fn usage_that_is_written_late_belongs_to_the_last_day_of_its_period() {
    let app = metered().await;
    let database = &app.database;
    // April has 30 days. Only periods of meters have a recorded end.
    let insert = format!(
        "INSERT INTO billing.usage (organization_id, feature, period_start, period_end, used) VALUES
            ('{ACME}', 'api_calls_per_month', '2020-04-01Z', NULL, 7),
            ('{ACME}', 'exports', '2020-04-01Z', '2020-04-11Z', 7)"
    );
    database.execute(&insert).await;
    let change = "UPDATE billing.usage SET used = used + 2 WHERE period_start = '2020-04-01Z'";
    database.execute(change).await;
    let days = "SELECT string_agg(concat_ws(' ', feature, cardinality(days), days[cardinality(days)]), ', '
        ORDER BY feature) FROM billing.usage WHERE period_start = '2020-04-01Z'";
    assert_eq!(database.value::<String>(days).await, "api_calls_per_month 30 9, exports 10 9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_together_never_exceed_the_limit_of_a_meter() {
    let database = Database::create().await;
    database.execute(METERS).await;
    database
        .execute("UPDATE billing.plan_features SET limit_value = 100 WHERE feature = 'exports'")
        .await;
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(App::on(database.clone(), AppSettings::default()).await);
    }
    let users: Vec<_> = apps
        .iter()
        .flat_map(|app| ["owner", "admin"].map(|role| app.user(&format!("acme-{role}"))))
        .collect();
    let worker = |user| async move {
        let mut counted = 0;
        for _ in 0..10 {
            let reply = consume(user, 3).await;
            if reply.codes().is_empty() {
                reply.data();
                counted += 3;
            } else {
                reply.assert_failed("PLAN_LIMIT_EXCEEDED");
            }
        }
        counted
    };
    let counted = futures_util::future::join_all(users.iter().map(worker)).await;
    assert_eq!(counted.iter().sum::<i64>(), 99, "33 of 60 events fit");
    assert_eq!(stored(&database, "exports").await, 99);
    assert_eq!(used(consume(&users[0], 1).await, "consumeUsage"), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_with_the_same_key_counts_once() {
    let app = metered().await;
    let admin = app.user("acme-admin");
    let event = |amount: i64| json!({ "feature": "exports", "amount": amount, "idempotencyKey": "night-1" });
    let repetitions = (0..8).map(|_| count(&admin, "consumeUsage", event(4)));
    for reply in futures_util::future::join_all(repetitions).await {
        assert_eq!(used(reply, "consumeUsage"), 4);
    }
    // Either mutation knows the key. Another amount is another event.
    assert_eq!(used(count(&admin, "recordUsage", event(4)).await, "recordUsage"), 4);
    count(&admin, "consumeUsage", event(5)).await.assert_failed("CONFLICT");
    assert_eq!(stored(&app.database, "exports").await, 4);
    // The key belongs to the organization and the feature.
    let renders = json!({ "feature": "renders", "amount": 1, "idempotencyKey": "night-1" });
    assert_eq!(used(count(&admin, "consumeUsage", renders).await, "consumeUsage"), 1);
    // Refused usage does not use up its key.
    let large = json!({ "feature": "exports", "amount": 7, "idempotencyKey": "night-2" });
    count(&admin, "consumeUsage", large.clone()).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    assert_eq!(used(count(&admin, "recordUsage", large).await, "recordUsage"), 11);
    // After a day, a key is free, and one that is stored deletes the others.
    app.database
        .execute("UPDATE billing.usage_keys SET created_at = now() - interval '25 hours'")
        .await;
    assert_eq!(used(count(&admin, "recordUsage", event(5)).await, "recordUsage"), 16);
    assert_eq!(
        app.database
            .value::<String>("SELECT string_agg(concat_ws(' ', feature, key, amount), ',') FROM billing.usage_keys")
            .await,
        "exports night-1 5"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_with_the_same_keys_in_any_combination_all_succeed() {
    let app = metered().await;
    let owner = app.user("acme-owner");
    let event = |alias: &str, key: String| {
        format!(
            "{alias}: consumeUsage(input: {{ feature: \"exports\", amount: 1, idempotencyKey: \"{key}\" }}) {{ entitlement {{ used }} }}"
        )
    };
    // Without the organization's lock, one may hold the sum and wait for a key, and the other hold
    // that key and wait for the sum.
    for round in 0..5 {
        let second = event("b", format!("{round}-2"));
        let both = format!("mutation {{ {} {second} }}", event("a", format!("{round}-1")));
        let one = format!("mutation {{ {second} }}");
        let all = (0..3).flat_map(|_| [owner.query(&both), owner.query(&one)]);
        for reply in futures_util::future::join_all(all).await {
            reply.data();
        }
    }
    assert_eq!(stored(&app.database, "exports").await, 10);
}

#[tokio::test]
async fn refused_usage_says_that_it_would_exceed_the_limit() {
    let app = metered().await;
    let reply = consume(&app.user("acme-admin"), 11).await;
    reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    assert_eq!(
        reply.body["errors"][0]["message"],
        "This would exceed the plan's limit of 10 for exports. Upgrade the plan."
    );
}

#[tokio::test]
async fn a_period_is_a_calendar_month_or_the_billing_period() {
    let start: DateTime<Utc> = "2030-01-20T12:00:00Z".parse().unwrap();
    let days = Arc::new(AtomicI64::new(0));
    let clock = {
        let days = Arc::clone(&days);
        Clock::from_fn(move || start + TimeDelta::days(days.load(Ordering::Relaxed)))
    };
    let app = App::with(AppSettings { clock, ..AppSettings::default() }).await;
    app.database.execute(METERS).await;
    app.database
        .execute(&format!(
            "UPDATE billing.organization_billing SET period_start = '2030-01-15T00:00:00Z', period_end = '2030-02-15T00:00:00Z'
             WHERE organization_id = '{ACME}'"
        ))
        .await;
    let claims = json!({ "sub": "acme-owner", "exp": 4_000_000_000_i64 });
    let owner = app.client(Some("acme"), Some(app::token_with(&claims)));
    // Days after 20 January, and what is used and when it resets, of exports and of renders.
    for (day, exports, renders) in [
        (0, (6, "2030-02-01"), (6, "2030-02-15")),
        (15, (6, "2030-03-01"), (12, "2030-02-15")),
        // The next period, although billing does not know it yet.
        (30, (12, "2030-03-01"), (6, "2030-03-15")),
        (60, (6, "2030-04-01"), (6, "2030-04-15")),
    ] {
        days.store(day, Ordering::Relaxed);
        for (feature, (expected, resets)) in [("exports", exports), ("renders", renders)] {
            let event = json!({ "feature": feature, "amount": 6 });
            let data = count(&owner, "recordUsage", event).await.data();
            let entitlement = &data["recordUsage"]["entitlement"];
            let resets = format!("{resets}T00:00:00+00:00");
            assert_eq!(
                (&entitlement["used"], &entitlement["resetsAt"]),
                (&json!(expected), &json!(resets)),
                "{feature} on day {day}"
            );
            let query =
                format!("{{ organization {{ entitlement(feature: \"{feature}\") {{ used }} }} }}");
            assert_eq!(owner.data(&query).await["organization"]["entitlement"]["used"], expected);
        }
    }
    let periods = |arguments: &str| {
        let query = format!(
            "{{ organization {{ usage(feature: \"exports\"{arguments}) {{ start end used }} }} }}"
        );
        let owner = &owner;
        async move { owner.data(&query).await["organization"]["usage"].clone() }
    };
    let [march, february, january] = [(3, 6), (2, 12), (1, 6)].map(|(month, used)| {
        let day = |month: u32| format!("2030-{month:02}-01T00:00:00+00:00");
        json!({ "start": day(month), "end": day(month + 1), "used": used })
    });
    assert_eq!(periods("").await, json!([march, february, january]));
    let range = ", from: \"2030-02-01T00:00:00Z\", to: \"2030-03-01T00:00:00Z\"";
    assert_eq!(periods(range).await, json!([february]));
    let query = "{ organization { usage(feature: \"renders\") { start end used } } }";
    let billed = |start: &str, end: &str, used: i64| {
        let at = |day: &str| format!("2030-{day}T00:00:00+00:00");
        json!({ "start": at(start), "end": at(end), "used": used })
    };
    let expected = json!([
        billed("03-15", "04-15", 6),
        billed("02-15", "03-15", 6),
        billed("01-15", "02-15", 12),
    ]);
    assert_eq!(owner.data(query).await["organization"]["usage"], expected);
    // API calls are written without an end.
    app.service.meter.give_back().await;
    let query = "{ organization { usage(feature: \"api_calls_per_month\", from: \"2030-03-01T00:00:00Z\") { start end } } }";
    let march =
        json!([{ "start": "2030-03-01T00:00:00+00:00", "end": "2030-04-01T00:00:00+00:00" }]);
    assert_eq!(owner.data(query).await["organization"]["usage"], march);
}

#[tokio::test]
async fn refused_usage_counts_nothing() {
    let app = metered().await;
    let before = app.database.fingerprint().await;
    let admin = app.user("acme-admin");
    let key = "k".repeat(256);
    for (input, code) in [
        (json!({ "feature": "exports", "amount": 0 }), "BAD_USER_INPUT"),
        (json!({ "feature": "exports", "amount": -5 }), "BAD_USER_INPUT"),
        (json!({ "feature": "rockets", "amount": 1 }), "BAD_USER_INPUT"),
        (json!({ "feature": "a\u{0}b", "amount": 1 }), "BAD_USER_INPUT"),
        (json!({ "feature": "projects", "amount": 1 }), "BAD_USER_INPUT"),
        (json!({ "feature": "sso", "amount": 1 }), "BAD_USER_INPUT"),
        (json!({ "feature": "api_calls_per_month", "amount": 1 }), "BAD_USER_INPUT"),
        (json!({ "feature": "exports", "amount": 1, "idempotencyKey": "" }), "BAD_USER_INPUT"),
        (json!({ "feature": "exports", "amount": 1, "idempotencyKey": key }), "BAD_USER_INPUT"),
        (
            json!({ "feature": "exports", "amount": 1, "idempotencyKey": "a\u{0}" }),
            "BAD_USER_INPUT",
        ),
    ] {
        for field in ["consumeUsage", "recordUsage"] {
            let reply = count(&admin, field, input.clone()).await;
            assert_eq!(reply.codes(), [code], "{field} {input}: {reply:?}");
        }
    }
    for amount in
        [json!(9_007_199_254_740_992_i64), json!(1.5), json!("1e3"), json!(true), Value::Null]
    {
        let reply =
            count(&admin, "consumeUsage", json!({ "feature": "exports", "amount": amount })).await;
        assert!(!reply.codes().is_empty(), "{amount}: {reply:?}");
    }
    // What some clients send for a whole number is one, but more than the plan allows.
    for amount in [json!(3.0e2), json!(300.0), json!("300")] {
        let reply =
            count(&admin, "consumeUsage", json!({ "feature": "exports", "amount": amount })).await;
        reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    }
    for role in ["member", "viewer"] {
        consume(&app.user(&format!("acme-{role}")), 1).await.assert_failed("FORBIDDEN");
    }
    let outsider = app.client(Some("acme"), Some(app::token("globex-owner")));
    consume(&outsider, 1).await.assert_refused(404, "NOT_FOUND");
    // The plan of globex does not include it.
    let reply = consume(&app.user("globex-owner"), 1).await;
    reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    let message = reply.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("does not include exports"), "{message}");
    assert_eq!(stored(&app.database, "exports").await, 0);
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_meters_in_one_mutation_count_together_or_not_at_all() {
    let app = metered().await;
    let mutation = |first: &str, second: &str| {
        format!(
            "mutation {{ a: consumeUsage(input: {{ feature: \"{first}\", amount: 1 }}) {{ entitlement {{ used }} }}
                         b: consumeUsage(input: {{ feature: \"{second}\", amount: 1 }}) {{ entitlement {{ used }} }} }}"
        )
    };
    // In opposite orders, they would wait for each other without the organization's lock.
    let (forth, back) = (mutation("exports", "renders"), mutation("renders", "exports"));
    let owner = app.user("acme-owner");
    let both = (0..5).flat_map(|_| [owner.query(&forth), owner.query(&back)]);
    for reply in futures_util::future::join_all(both).await {
        reply.data();
    }
    assert_eq!(stored(&app.database, "exports").await, 10);
    assert_eq!(stored(&app.database, "renders").await, 10);
    app.database
        .execute(&format!(
            "INSERT INTO billing.organization_features (organization_id, feature, limit_value)
             VALUES ('{ACME}', 'renders', 12), ('{GLOBEX}', 'exports', 100)"
        ))
        .await;
    owner.query(&back).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    assert_eq!(stored(&app.database, "renders").await, 10, "neither is counted");
}
