//! Turns and attempts: nobody starves the others, nobody guesses for long.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{App, AppSettings, Client, Reply, app::token};

const RENAME: &str =
    "mutation { updateOrganization(input: { name: \"Other\" }) { organization { name } } }";
const NAME: &str = "{ organization { name } }";

/// Waits until something holds.
#[track_caller]
fn until(holds: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let held = tokio::time::timeout(Duration::from_secs(4), waiting).await;
        assert!(held.is_ok(), "it does not come to hold: {caller}");
    }
}

/// Holds the row that a new name is written to.
async fn hold(app: &App, slug: &str) -> PgConnection {
    let mut connection = app.database.connect_admin().await;
    connection.execute("BEGIN").await.unwrap();
    let sql = format!("SELECT FROM app.organizations WHERE slug = '{slug}' FOR UPDATE");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    connection
}

async fn busy(app: &App) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'tenantry_app' AND wait_event_type = 'Lock'";
    app.database.value(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_is_stuck_leaves_the_others_their_connections() {
    let app = App::with(AppSettings { waiting: 6, ..AppSettings::default() }).await;
    // Known before: else each of the first requests would have to be let in by the database, and
    // its document to be read.
    app.person("acme-owner").data(NAME).await;
    app.person("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    app.person("globex-member").data(NAME).await;
    let lock = hold(&app, "acme").await;
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let owner = app.person("acme-owner");
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    until(async || busy(&app).await == 2 && app.service.concurrency.load().1 == 6).await;
    assert_eq!(app.service.concurrency.load(), (2, 6));
    // One more than may wait, also of another person of theirs once it is known whose they are.
    let refused = app.person("acme-owner").query(NAME).await;
    refused.assert_refused(429, "RATE_LIMITED");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body["errors"][0]["extensions"]["retryAfter"], 1);
    app.person("acme-admin").query(NAME).await.assert_refused(429, "RATE_LIMITED");
    // Half of the connections are in nobody's way.
    for reply in join_all((0..8).map(|_| {
        let other = app.person("globex-member");
        async move { other.query(NAME).await }
    }))
    .await
    {
        assert_eq!(reply.data()["organization"]["name"], "Globex");
    }
    assert_eq!(busy(&app).await, 2);
    lock.close().await.unwrap();
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
    until(async || app.service.concurrency.load() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_let_in_takes_no_turn_of_an_organization() {
    let app = App::with(AppSettings { waiting: 0, ..AppSettings::default() }).await;
    let owner = app.person("acme-owner");
    owner.data(NAME).await;
    // Read before, and executed by no owner: what changes nothing waits for nothing.
    app.person("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    let lock = hold(&app, "acme").await;
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    until(async || busy(&app).await == 2).await;
    // No turn is left, and nobody may wait: a stranger is told the same as at any other time, and
    // as of what does not exist.
    owner.query(NAME).await.assert_refused(429, "RATE_LIMITED");
    for slug in ["acme", "nowhere"] {
        let stranger = app.client(Some(slug), Some(token("globex-owner")));
        stranger.query(NAME).await.assert_refused(404, "NOT_FOUND");
    }
    // And one who was a member is one no more.
    app.database
        .execute("DELETE FROM auth.organization_members WHERE user_id = '00000000-0000-4000-8000-0000000000a4'")
        .await;
    app.person("acme-viewer").query(NAME).await.assert_refused(404, "NOT_FOUND");
    lock.close().await.unwrap();
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_get_a_turn_in_time_is_told_so() {
    let app = App::with(AppSettings {
        waiting: 1,
        turn_wait: Duration::from_millis(300),
        ..AppSettings::default()
    })
    .await;
    let owner = app.person("acme-owner");
    owner.data(NAME).await;
    // Read before, and executed by no owner: what changes nothing waits for nothing.
    app.person("acme-member").query(RENAME).await.assert_failed("FORBIDDEN");
    let lock = hold(&app, "acme").await;
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.query(RENAME).await })
        })
        .collect();
    until(async || busy(&app).await == 2).await;
    let reply = owner.query(NAME).await;
    reply.assert_refused(429, "RATE_LIMITED");
    assert!(reply.text.contains("of this organization are running"), "{reply:?}");
    lock.close().await.unwrap();
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
}

#[tokio::test]
async fn tokens_of_invitations_cannot_be_guessed_for_long() {
    let attempts = NonZeroU32::new(5).unwrap();
    let app = App::with(AppSettings { attempts, ..AppSettings::default() }).await;
    let guess = |client: Client| async move {
        let mutation = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { organization { slug } } }";
        client.query_with(mutation, json!({ "token": "a".repeat(43) })).await
    };
    for _ in 0..5 {
        guess(app.stranger("guesser")).await.assert_failed("NOT_FOUND");
    }
    let reply = guess(app.stranger("guesser")).await;
    reply.assert_refused(429, "RATE_LIMITED");
    let retry_after: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=13).contains(&retry_after), "{retry_after}");
    // Somebody else has attempts of their own; whatever else the guesser does is another thing.
    guess(app.stranger("another")).await.assert_failed("NOT_FOUND");
    app.stranger("guesser").data("{ viewer { name } }").await;
}

#[tokio::test]
async fn an_address_has_so_many_attempts_whoever_makes_them() {
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
    // Whose token is good is not kept out by a neighbour, and another address has attempts of its
    // own.
    show(&token("acme-owner"), "203.0.113.7").await.data();
    show("a.b.c", "203.0.113.8").await.assert_refused(401, "UNAUTHENTICATED");
    // The lower half of an address of IPv6 is for its holder to choose.
    for n in 0..4 {
        let address: &'static str = format!("2001:db8:1:2::{n}").leak();
        show("a.b.c", address).await.assert_refused(401, "UNAUTHENTICATED");
    }
    show("a.b.c", "2001:db8:1:2:ffff::1").await.assert_refused(429, "RATE_LIMITED");
    show("a.b.c", "2001:db8:1:3::1").await.assert_refused(401, "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_too_many_wait_for_a_connection_the_rest_is_told_at_once() {
    let app =
        App::with(AppSettings { max_connections: 1, outside: 64, ..AppSettings::default() }).await;
    let owner = app.person("acme-owner");
    owner.data(NAME).await;
    // Made before: that takes its time, of which PostgreSQL lets nobody wait for long.
    let strangers: Vec<_> = (0..40).map(|n| app.stranger(&format!("stranger-{n}"))).collect();
    let lock = hold(&app, "acme").await;
    let stuck = tokio::spawn(async move { owner.query(RENAME).await });
    until(async || busy(&app).await == 1).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let strangers: Vec<_> = strangers
        .into_iter()
        .map(|stranger| {
            let told = told.clone();
            tokio::spawn(async move { told.send(stranger.query("{ viewer { name } }").await) })
        })
        .collect();
    // 32 wait; the others are answered while nothing has changed.
    for _ in 0..8 {
        let refused = heard.recv().await.unwrap();
        refused.assert_refused(503, "UNAVAILABLE");
        assert_eq!(refused.headers["retry-after"], "1");
    }
    assert!(!stuck.is_finished());
    lock.close().await.unwrap();
    stuck.await.unwrap().data();
    for _ in 0..32 {
        heard.recv().await.unwrap().data();
    }
    for stranger in strangers {
        stranger.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_lasts_as_long_as_its_connection_is_not_free() {
    let app = App::with(AppSettings { running: 1, ..AppSettings::default() }).await;
    let owner = app.person("acme-owner");
    // Prepared once: a connection that is given up while it prepares a statement is closed.
    owner.data("{ organization { projects { totalCount } } }").await;
    let mut projects = app.database.connect_admin().await;
    projects.execute("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // Answered at once, for its other half; what the first half asked is still running.
    let query = "{ organization { projects { totalCount } members(first: -1) { nodes { id } } } }";
    assert_eq!(owner.query(query).await.codes(), ["BAD_USER_INPUT"]);
    assert_eq!((busy(&app).await, app.service.concurrency.load()), (1, (1, 0)));
    // Gone before its turn.
    let gone = owner.clone();
    let gone = tokio::spawn(async move { gone.query(NAME).await });
    until(async || app.service.concurrency.load() == (1, 1)).await;
    gone.abort();
    until(async || app.service.concurrency.load() == (1, 0)).await;
    projects.close().await.unwrap();
    until(async || app.service.concurrency.load() == (0, 0)).await;
    owner.data(NAME).await;
}
