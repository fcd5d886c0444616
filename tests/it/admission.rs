//! Admission: limits of concurrency and of attempts. One organization cannot starve others, and
//! guessing stops at a limit.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{App, AppSettings, Client, Reply, app::token};

const RENAME: &str =
    "mutation { updateOrganization(input: { name: \"Other\" }) { organization { name } } }";
const NAME: &str = "{ organization { name } }";

/// Waits until a condition holds.
#[track_caller]
fn wait_until(holds: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let held = tokio::time::timeout(Duration::from_secs(4), waiting).await;
        assert!(held.is_ok(), "the condition never holds: {caller}");
    }
}

/// Locks the row that a rename updates.
async fn lock_organization(app: &App, slug: &str) -> pg::Client {
    let connection = app.database.connect_admin().await;
    connection.batch("BEGIN").await.unwrap();
    let sql = format!("SELECT FROM app.organizations WHERE slug = '{slug}' FOR UPDATE");
    connection.batch(&sql).await.unwrap();
    connection
}

async fn blocked(app: &App) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'tenantry_app' AND wait_event_type = 'Lock'";
    app.database.value(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_organization_leaves_connections_to_others() {
    let app = App::with(AppSettings { waiting: 6, ..AppSettings::default() }).await;
    // Cache the session and the document: otherwise each of the first requests would wait for the
    // database and for parsing.
    app.user("acme-owner").data(NAME).await;
    app.user("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    app.user("globex-member").data(NAME).await;
    let lock = lock_organization(&app, "acme").await;
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let owner = app.user("acme-owner");
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    wait_until(async || blocked(&app).await == 2 && app.service.concurrency.load().1 == 6).await;
    assert_eq!(app.service.concurrency.load(), (2, 6));
    // One request more than may wait is rejected. This holds for another member too, once the cache
    // knows the organization.
    let refused = app.user("acme-owner").query(NAME).await;
    refused.assert_refused(429, "RATE_LIMITED");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body["errors"][0]["extensions"]["retryAfter"], 1);
    app.user("acme-admin").query(NAME).await.assert_refused(429, "RATE_LIMITED");
    // Nothing blocks the other half of the connections.
    for reply in join_all((0..8).map(|_| {
        let other = app.user("globex-member");
        async move { other.query(NAME).await }
    }))
    .await
    {
        assert_eq!(reply.data()["organization"]["name"], "Globex");
    }
    assert_eq!(blocked(&app).await, 2);
    lock.close().await;
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
    wait_until(async || app.service.concurrency.load() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_access_take_no_permit_of_an_organization() {
    let app = App::with(AppSettings { waiting: 0, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    // Cache the document. A member without the permission executes it, so nothing changes and
    // nothing waits.
    app.user("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    let lock = lock_organization(&app, "acme").await;
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    wait_until(async || blocked(&app).await == 2).await;
    // No permit is left and the queue is full. An outsider gets the usual response, the same as for
    // an organization that does not exist.
    owner.query(NAME).await.assert_refused(429, "RATE_LIMITED");
    for slug in ["acme", "nowhere"] {
        let outsider = app.client(Some(slug), Some(token("globex-owner")));
        outsider.query(NAME).await.assert_refused(404, "NOT_FOUND");
    }
    // The same holds for a former member.
    app.database
        .execute("DELETE FROM auth.organization_members WHERE user_id = '00000000-0000-4000-8000-0000000000a4'")
        .await;
    app.user("acme-viewer").query(NAME).await.assert_refused(404, "NOT_FOUND");
    lock.close().await;
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_permit_in_time_is_rejected() {
    let app = App::with(AppSettings {
        waiting: 1,
        turn_wait: Duration::from_millis(300),
        ..AppSettings::default()
    })
    .await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    // Cache the document. A member without the permission executes it, so nothing changes and
    // nothing waits.
    app.user("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    let lock = lock_organization(&app, "acme").await;
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    wait_until(async || blocked(&app).await == 2).await;
    let reply = owner.query(NAME).await;
    reply.assert_refused(429, "RATE_LIMITED");
    assert!(reply.text.contains("of this organization are running"), "{reply:?}");
    lock.close().await;
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
}

#[tokio::test]
async fn guessing_invitation_tokens_is_rate_limited() {
    let attempts = NonZeroU32::new(5).unwrap();
    let app = App::with(AppSettings { attempts, ..AppSettings::default() }).await;
    let guess = |client: Client| async move {
        let mutation = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { organization { slug } } }";
        client.query_with(mutation, json!({ "token": "a".repeat(43) })).await
    };
    for _ in 0..5 {
        guess(app.outsider("guesser")).await.assert_failed("NOT_FOUND");
    }
    let reply = guess(app.outsider("guesser")).await;
    reply.assert_refused(429, "RATE_LIMITED");
    let retry_after: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=13).contains(&retry_after), "{retry_after}");
    // The limit holds for one user, and only for these attempts.
    guess(app.outsider("another")).await.assert_failed("NOT_FOUND");
    app.outsider("guesser").data("{ viewer { name } }").await;
}

#[tokio::test]
async fn bad_tokens_are_limited_for_each_address() {
    let few = NonZeroU32::new(4).unwrap();
    let app = App::with(AppSettings {
        attempts_by_address: few,
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..AppSettings::default()
    })
    .await;
    let show = |token: &str, address: &'static str| {
        let client = app.client(Some("acme"), Some(token.to_owned()));
        async move {
            let request = client.post().header("x-forwarded-for", address);
            Reply::of(request.json(&json!({ "query": NAME }))).await
        }
    };
    for _ in 0..4 {
        show("a.b.c", "203.0.113.7").await.assert_refused(401, "UNAUTHENTICATED");
    }
    let limited = show("a.b.c", "203.0.113.7").await;
    limited.assert_refused(429, "RATE_LIMITED");
    assert!(limited.headers.contains_key("retry-after"));
    // A valid token from the same address is accepted, and another address has a separate limit.
    show(&token("acme-owner"), "203.0.113.7").await.data();
    show("a.b.c", "203.0.113.8").await.assert_refused(401, "UNAUTHENTICATED");
    // The holder of an IPv6 network chooses the lower half of the address.
    for n in 0..4 {
        let address: &'static str = format!("2001:db8:1:2::{n}").leak();
        show("a.b.c", address).await.assert_refused(401, "UNAUTHENTICATED");
    }
    show("a.b.c", "2001:db8:1:2:ffff::1").await.assert_refused(429, "RATE_LIMITED");
    show("a.b.c", "2001:db8:1:3::1").await.assert_refused(401, "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_connection_queue_are_rejected_at_once() {
    let app =
        App::with(AppSettings { max_connections: 1, outside: 64, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    // Create the clients first: that takes time, and PostgreSQL ends long lock waits.
    let outsiders: Vec<_> = (0..40).map(|n| app.outsider(&format!("outsider-{n}"))).collect();
    let lock = lock_organization(&app, "acme").await;
    let stuck = tokio::spawn(async move { owner.query(RENAME).await });
    wait_until(async || blocked(&app).await == 1).await;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let outsiders: Vec<_> = outsiders
        .into_iter()
        .map(|outsider| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(outsider.query("{ viewer { name } }").await) })
        })
        .collect();
    // 32 requests wait. The others are rejected while the lock is held.
    for _ in 0..8 {
        let refused = receiver.recv().await.unwrap();
        refused.assert_refused(503, "UNAVAILABLE");
        assert_eq!(refused.headers["retry-after"], "1");
    }
    assert!(!stuck.is_finished());
    lock.close().await;
    stuck.await.unwrap().data();
    for _ in 0..32 {
        receiver.recv().await.unwrap().data();
    }
    for outsider in outsiders {
        outsider.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_is_held_until_its_connection_is_free() {
    let app = App::with(AppSettings { running: 1, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    // Prepare the statements first: a connection that is abandoned while it prepares a statement is
    // closed.
    owner.data("{ organization { projects { totalCount } } }").await;
    let projects = app.database.connect_admin().await;
    projects.batch("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // The second field fails at once and ends the response, while the statement of the first one
    // still runs.
    let query = "{ organization { projects { totalCount } members(first: -1) { nodes { id } } } }";
    assert_eq!(owner.query(query).await.codes(), ["BAD_USER_INPUT"]);
    assert_eq!((blocked(&app).await, app.service.concurrency.load()), (1, (1, 0)));
    // This request is cancelled before it gets a permit.
    let gone = owner.clone();
    let gone = tokio::spawn(async move { gone.query(NAME).await });
    wait_until(async || app.service.concurrency.load() == (1, 1)).await;
    gone.abort();
    wait_until(async || app.service.concurrency.load() == (1, 0)).await;
    projects.close().await;
    wait_until(async || app.service.concurrency.load() == (0, 0)).await;
    owner.data(NAME).await;
}
