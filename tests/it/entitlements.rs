//! What an organization may use: the plan's row of a feature, replaced by the organization's
//! exception while that is valid.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::{
    auth::Caller,
    clock::Clock,
    error::Error,
    plan,
    tenancy::{Destination, OpenFor, Session, open},
};

use crate::support::{
    App, AppSettings, Client, app,
    database::Database,
    placement::{ACME, GLOBEX},
    process::{Output, failed, run, succeeded, tenantry},
};

const CREATE: &str = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";

/// Adds the flag `sso`, which only the plan enterprise includes.
const SSO: &str =
    "INSERT INTO billing.features (feature, kind, name, position) VALUES ('sso', 'flag', 'Single sign-on', 9);
     INSERT INTO billing.plan_features (plan, feature) VALUES ('enterprise', 'sso');
     INSERT INTO billing.plan_features (plan, feature, enabled) VALUES ('pro', 'sso', false)";

/// Runs `tenantry tenant` while a server runs.
async fn tenant(database: &Database, arguments: &[&str]) -> Output {
    let mut command = tenantry();
    command.arg("tenant").args(arguments);
    command.env("MIGRATION_DATABASE_URL", database.url("postgres"));
    if let Some(eu) = database.eu() {
        command.env("MIGRATION_DATABASES", format!("eu={}", eu.database.url("postgres")));
    }
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

async fn entitlement(client: &Client, feature: &str) -> Value {
    let query = "query ($feature: String!) { organization { entitlement(feature: $feature) {
        feature { key name kind unit period } enabled limit used remaining overLimit resetsAt source validUntil } } }";
    let reply = client.query_with(query, json!({ "feature": feature })).await;
    reply.data()["organization"]["entitlement"].clone()
}

async fn session(app: &App, subject: &str) -> Arc<Session> {
    let caller = Caller {
        expires_at: DateTime::<Utc>::MAX_UTC,
        subject: subject.to_owned(),
        ..Caller::default()
    };
    let slug = subject.split('-').next().map(str::to_owned);
    let destination = Destination { slug, client_ip: None };
    let service = &app.service;
    let opened =
        open(&service.databases, &service.settings, &caller, &destination, &OpenFor::Query);
    opened.await.unwrap().session
}

/// Returns the limit with which a flag is refused, or `None` if it is included.
async fn refused(app: &App, subject: &str, flag: &str) -> Option<i64> {
    let session = session(app, subject).await;
    match plan::require_flag(&session, flag).await {
        Ok(()) => None,
        Err(Error::PlanLimitExceeded { feature, limit }) if feature == flag => Some(limit),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_feature_of_your_own_is_one_row_that_clients_see() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO billing.features (feature, kind, name, unit, position) VALUES ('seats', 'count', 'Seats', 'seat', 4);
             INSERT INTO billing.plan_features (plan, feature, limit_value) VALUES ('pro', 'seats', 5000000000)",
        )
        .await;
    let (acme, globex) = (app.user("acme-viewer"), app.user("globex-viewer"));
    let feature =
        json!({ "key": "seats", "name": "Seats", "kind": "COUNT", "unit": "seat", "period": null });
    let expected = json!({ "feature": feature, "enabled": true, "limit": 5_000_000_000_i64, "used": null,
        "remaining": null, "overLimit": false, "resetsAt": null, "source": "PLAN", "validUntil": null });
    assert_eq!(entitlement(&acme, "seats").await, expected);
    let missing = entitlement(&globex, "seats").await;
    assert_eq!((&missing["enabled"], &missing["limit"]), (&json!(false), &json!(0)));
    let keys = "{ organization { entitlements { feature { key } } plan { features { plan { key } feature { key } limit } } } }";
    let data = acme.data(keys).await;
    let keys: Vec<_> = data["organization"]["entitlements"].as_array().unwrap().iter().collect();
    // Resources of the product may have further features.
    assert!(keys.len() >= 4);
    assert!(
        keys.contains(&&json!({ "feature": { "key": "seats" } })),
        "after the features of the seed"
    );
    assert_eq!(
        data["organization"]["plan"]["features"][3],
        json!({ "plan": { "key": "pro" }, "feature": { "key": "seats" }, "limit": 5_000_000_000_i64 })
    );
    for unknown in ["rockets", "", "a\u{0}b"] {
        assert_eq!(entitlement(&acme, unknown).await, Value::Null, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_replaces_the_limit_of_one_organization_at_once() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    owner.data(CREATE).await;
    owner.query(CREATE).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let allow = ["allow", "globex", "projects", "4", "--until", "2999-01-31", "--reason", "Beta"];
    let output = tenant(&app.database, &allow).await;
    assert_eq!(succeeded(&output), "+ globex projects 4 until 2999-01-31 (Beta)\n");
    owner.data(CREATE).await;
    let before = app.database.fingerprint().await;
    let reply = owner.query(CREATE).await;
    reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    let extensions = &reply.body["errors"][0]["extensions"];
    assert_eq!((&extensions["feature"], &extensions["limit"]), (&json!("projects"), &json!(4)));
    assert_eq!(app.database.fingerprint().await, before);
    let seen = entitlement(&owner, "projects").await;
    assert_eq!(
        [&seen["limit"], &seen["source"], &seen["validUntil"]],
        [&json!(4), &json!("OVERRIDE"), &json!("2999-01-31T00:00:00+00:00")]
    );
    let other = entitlement(&app.user("acme-viewer"), "projects").await;
    assert_eq!((&other["limit"], &other["source"]), (&json!(50), &json!("PLAN")));

    // The command changes nothing when it is repeated.
    assert_eq!(succeeded(&tenant(&app.database, &allow).await), "nothing changed\n");
    let output = tenant(&app.database, &["allow", "globex", "projects", "unlimited"]).await;
    let expected = "- globex projects 4 until 2999-01-31 (Beta)\n+ globex projects unlimited\n";
    assert_eq!(succeeded(&output), expected);
    owner.data(CREATE).await;
    let output = tenant(&app.database, &["disallow", "globex", "projects"]).await;
    assert_eq!(succeeded(&output), "- globex projects unlimited\n");
    owner.query(CREATE).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let again = tenant(&app.database, &["disallow", "globex", "projects"]).await;
    assert_eq!(succeeded(&again), "nothing changed\n");
    let log = owner
        .data("{ organization { auditLogs(filter: { action: \"billing.entitlement_changed\" }) { nodes { actorName metadata } } } }")
        .await;
    let expected = json!([
        { "actorName": "tenantry tenant disallow", "metadata": { "feature": "projects", "old_value": "unlimited",
          "value": null, "valid_until": null, "reason": null } },
        { "actorName": "tenantry tenant allow", "metadata": { "feature": "projects", "old_value": "4",
          "value": "unlimited", "valid_until": null, "reason": null } },
        { "actorName": "tenantry tenant allow", "metadata": { "feature": "projects", "old_value": null, "value": "4",
          "valid_until": "2999-01-31T00:00:00Z", "reason": "Beta" } },
    ]);
    assert_eq!(log["organization"]["auditLogs"]["nodes"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_that_cannot_be_made_changes_nothing() {
    let app = App::start().await;
    app.database.execute(SSO).await;
    let before = app.database.fingerprint().await;
    for (arguments, reason) in [
        (["allow", "globex", "rockets", "1"].as_slice(), "there is no feature rockets"),
        (&["allow", "nowhere", "projects", "1"], "there is no organization nowhere"),
        (&["allow", "globex", "projects", "on"], "projects is a count: use a number"),
        (&["allow", "globex", "sso", "3"], "sso is a flag: use on or off"),
        (&["allow", "globex", "projects", "1.5"], "must be a whole number"),
        (&["allow", "globex", "projects", "9007199254740992"], "must be a whole number"),
        (&["allow", "globex", "projects", "1", "--until", "2020-01-01"], "is in the past"),
        (&["disallow", "globex", "rockets"], "there is no feature rockets"),
    ] {
        failed(&tenant(&app.database, arguments).await, reason);
    }
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn an_exception_ends_by_itself() {
    let start: DateTime<Utc> = "2030-05-10T12:00:00Z".parse().unwrap();
    let hours = Arc::new(AtomicI64::new(0));
    let clock = {
        let hours = Arc::clone(&hours);
        Clock::from_fn(move || start + TimeDelta::hours(hours.load(Ordering::Relaxed)))
    };
    let app = App::with(AppSettings { clock, ..AppSettings::default() }).await;
    app.database
        .execute(&format!(
            "INSERT INTO billing.organization_features (organization_id, feature, limit_value, valid_until) VALUES
             ('{GLOBEX}', 'projects', 9, '2030-05-10T13:00:00Z'), ('{GLOBEX}', 'api_calls_per_month', 7, '2030-05-10T13:00:00Z')"
        ))
        .await;
    let claims = json!({ "sub": "globex-owner", "exp": 4_000_000_000_i64 });
    let owner = app.client(Some("globex"), Some(app::token_with(&claims)));
    let calls = |reply: &crate::support::Reply| {
        reply.headers["ratelimit-limit"].to_str().unwrap().to_owned()
    };
    owner.data(CREATE).await;
    let reply = owner.query(CREATE).await;
    assert_eq!((reply.codes().is_empty(), calls(&reply)), (true, "7".to_owned()));
    hours.store(1, Ordering::Relaxed);
    let reply = owner.query(CREATE).await;
    assert_eq!((reply.codes(), calls(&reply)), (vec!["PLAN_LIMIT_EXCEEDED"], "1000".to_owned()));
    let seen = entitlement(&owner, "projects").await;
    assert_eq!(
        [&seen["limit"], &seen["used"], &seen["overLimit"], &seen["source"], &seen["validUntil"]],
        [&json!(3), &json!(4), &json!(true), &json!("PLAN"), &Value::Null]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_of_api_calls_is_obeyed_by_the_next_request() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    let limit = |reply: crate::support::Reply| {
        let limit = reply.headers.get("ratelimit-limit");
        limit.map(|limit| limit.to_str().unwrap().to_owned())
    };
    let call = || owner.query("{ organization { name } }");
    assert_eq!(limit(call().await), Some("1000".to_owned()));
    succeeded(&tenant(&app.database, &["allow", "globex", "api_calls_per_month", "2000"]).await);
    assert_eq!(limit(call().await), Some("2000".to_owned()));
    let unlimited = ["allow", "globex", "api_calls_per_month", "unlimited"];
    succeeded(&tenant(&app.database, &unlimited).await);
    assert_eq!(limit(call().await), None);
    succeeded(&tenant(&app.database, &["allow", "globex", "api_calls_per_month", "off"]).await);
    call().await.assert_refused(429, "PLAN_LIMIT_EXCEEDED");
    succeeded(&tenant(&app.database, &["disallow", "globex", "api_calls_per_month"]).await);
    assert_eq!(limit(call().await), Some("1000".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_is_included_by_the_plan_or_by_an_exception() {
    let app = App::start().await;
    assert_eq!(refused(&app, "acme-viewer", "sso").await, Some(0), "a key without a row is denied");
    app.database.execute(SSO).await;
    assert_eq!(refused(&app, "acme-viewer", "sso").await, Some(0), "disabled in the plan");
    assert_eq!(refused(&app, "globex-viewer", "sso").await, Some(0), "absent from the plan");
    succeeded(&tenant(&app.database, &["allow", "globex", "sso", "on"]).await);
    assert_eq!(refused(&app, "globex-viewer", "sso").await, None);
    assert_eq!(refused(&app, "acme-viewer", "sso").await, Some(0));
    let seen = entitlement(&app.user("globex-viewer"), "sso").await;
    assert_eq!(
        [&seen["enabled"], &seen["limit"], &seen["used"], &seen["remaining"], &seen["source"]],
        [&json!(true), &Value::Null, &Value::Null, &Value::Null, &json!("OVERRIDE")]
    );
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    assert_eq!(refused(&app, "acme-viewer", "sso").await, None);
    succeeded(&tenant(&app.database, &["allow", "acme", "sso", "off"]).await);
    assert_eq!(refused(&app, "acme-viewer", "sso").await, Some(0), "an exception can also deny");
}

#[tokio::test]
async fn members_cannot_write_exceptions_and_see_only_their_own() {
    let app = App::start().await;
    app.database
        .execute(&format!(
            "INSERT INTO billing.organization_features (organization_id, feature, limit_value)
             VALUES ('{ACME}', 'projects', 77), ('{GLOBEX}', 'projects', 78)"
        ))
        .await;
    let seen = entitlement(&app.user("acme-viewer"), "projects").await;
    assert_eq!(seen["limit"], 77);
    let outsider = app.client(Some("acme"), Some(app::token("globex-owner")));
    let query = "{ organization { entitlement(feature: \"projects\") { limit } } }";
    outsider.query(query).await.assert_refused(404, "NOT_FOUND");
}
