//! The session cache: queries start from the context of the last session, and no client ever sees
//! an outdated one.

use std::{cell::Cell, time::Duration};

use serde_json::json;

use crate::support::{App, AppSettings, HANG, Reply, app};

const RECORDS: &str = "{ organization { name viewerRole auditLogs(first: 1) { nodes { id } } } }";

/// Changes the membership of acme's admin.
async fn change(app: &App, how: &str) {
    let membership = "user_id = (SELECT user_id FROM auth.identities WHERE subject = 'acme-admin')
        AND organization_id = (SELECT id FROM app.organizations WHERE slug = 'acme')";
    app.database.execute(&how.replace("$membership", membership)).await;
}

const DEMOTE: &str = "UPDATE auth.organization_members SET role = 'viewer' WHERE $membership";
const PROMOTE: &str = "UPDATE auth.organization_members SET role = 'admin' WHERE $membership";
const REMOVE: &str = "DELETE FROM auth.organization_members WHERE $membership";

/// Returns what a client sees of a response, except for what differs each time.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, serde_json::Value) {
    let mut body = reply.body.clone();
    for error in body["errors"].as_array_mut().into_iter().flatten() {
        error["extensions"]["requestId"] = json!(null);
    }
    let headers =
        reply.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (reply.status.as_u16(), headers.collect(), body)
}

#[tokio::test]
async fn a_changed_role_takes_effect_at_once() {
    let app = App::start().await;
    let admin = app.user("acme-admin");
    for _ in 0..2 {
        assert_eq!(admin.data(RECORDS).await["organization"]["viewerRole"], "ADMIN");
    }
    change(&app, DEMOTE).await;
    let reply = admin.query(RECORDS).await;
    assert_eq!(reply.codes(), ["FORBIDDEN"], "{reply:?}");
    change(&app, PROMOTE).await;
    assert_eq!(admin.data(RECORDS).await["organization"]["viewerRole"], "ADMIN");
}

#[tokio::test]
async fn a_removed_member_gets_the_response_of_an_outsider() {
    let app = App::start().await;
    let admin = app.user("acme-admin");
    let globex = app.client(Some("acme"), Some(app::token("globex-owner")));
    admin.data(RECORDS).await;
    let last = admin.query(RECORDS).await;
    assert!(last.headers.contains_key("ratelimit-remaining"), "{last:?}");
    change(&app, REMOVE).await;
    let (theirs, outsiders) = (admin.query(RECORDS).await, globex.query(RECORDS).await);
    outsiders.assert_refused(404, "NOT_FOUND");
    assert_eq!(comparable(&theirs), comparable(&outsiders));
    assert_eq!(comparable(&admin.query(RECORDS).await), comparable(&outsiders));
}

#[tokio::test]
async fn a_rename_shows_at_once_and_the_call_is_counted_once() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let remaining = |reply: &Reply| -> i64 {
        reply.headers["ratelimit-remaining"].to_str().unwrap().parse().unwrap()
    };
    owner.data(RECORDS).await;
    let before = owner.query(RECORDS).await;
    app.database.execute("UPDATE app.organizations SET name = 'Changed' WHERE slug = 'acme'").await;
    let after = owner.query(RECORDS).await;
    assert_eq!(after.body["data"]["organization"]["name"], "Changed");
    assert_eq!(remaining(&after), remaining(&before) - 1);
    owner.data("mutation { updateOrganization(input: { slug: \"acme-two\" }) { organization { slug } } }").await;
    // A request to the retired slug reaches the organization.
    let moved = owner.query(RECORDS).await;
    assert_eq!(moved.body["extensions"]["organizationSlug"], "acme-two", "{moved:?}");
    assert_eq!(remaining(&moved), remaining(&after) - 2);
}

#[tokio::test]
async fn a_billing_change_is_seen_by_every_caller_of_one_connection() {
    let settings = || AppSettings { max_connections: 1, running: 1, ..AppSettings::default() };
    for statement_cache in [100, 0] {
        let app = App::with(AppSettings { statement_cache, ..settings() }).await;
        let users =
            ["owner", "admin", "member", "viewer"].map(|role| app.user(&format!("globex-{role}")));
        let ask = || async {
            let queries = users.iter().map(|user| user.query("{ organization { name } }"));
            let replies = futures_util::future::join_all(queries).await;
            replies.iter().map(limit).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(ask().await, [1_000; 4]);
        }
        app.database.execute("UPDATE billing.organization_billing SET plan = 'pro'").await;
        assert_eq!(ask().await, [50_000; 4]);
        let used = "SELECT coalesce(sum(used), 0)::bigint FROM billing.usage";
        app.service.meter.give_back().await;
        assert_eq!(app.database.value::<i64>(used).await, 12, "each is counted once");
    }
}

fn limit(reply: &Reply) -> i64 {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.headers["ratelimit-limit"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn lost_connections_are_replaced_without_an_error() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let all = || futures_util::future::join_all((0..4).map(|_| owner.data(RECORDS)));
    all().await;
    for _ in 0..3 {
        app.database
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tenantry_app' AND datname = current_database()")
            .await;
        all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_is_consistent_while_roles_change() {
    let app = App::with(AppSettings { running: 16, ..AppSettings::default() }).await;
    let admin = app.user("acme-admin");
    let started = std::time::Instant::now();
    let stop = Cell::new(false);
    let changing = async {
        while !stop.get() {
            for how in [DEMOTE, PROMOTE] {
                change(&app, how).await;
            }
        }
    };
    let asking = async {
        let (mut allowed, mut refused) = (0, 0);
        // At least three seconds, and as long as it takes to see both outcomes often.
        while started.elapsed() < Duration::from_secs(3)
            || (allowed <= 20 || refused <= 20) && started.elapsed() < HANG
        {
            let reply = admin.query(RECORDS).await;
            let role = &reply.body["data"]["organization"]["viewerRole"];
            if reply.codes().is_empty() {
                assert_eq!(role, "ADMIN", "{reply:?}");
                assert!(
                    reply.body["data"]["organization"]["auditLogs"]["nodes"][0]["id"].is_string()
                );
                allowed += 1;
            } else {
                assert_eq!(reply.codes(), ["FORBIDDEN"], "{reply:?}");
                assert!(role.is_null() || role == "VIEWER", "{reply:?}");
                refused += 1;
            }
        }
        stop.set(true);
        (allowed, refused)
    };
    let ((allowed, refused), ()) = tokio::join!(asking, changing);
    assert!(
        allowed > 20 && refused > 20,
        "{allowed} allowed, {refused} rejected, so the test shows nothing"
    );
}
