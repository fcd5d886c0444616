//! A replica answers queries whose clients say how stale a response may be: never older than that,
//! never older than the client's own last change, and only what the primary would have returned
//! then. Each test has its own primary and standby.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Client, HANG, Reply, app,
    cluster::Cluster,
    process::{self, tenantry, tenantry_child},
    server_process::ServerProcess,
};

const NAME: &str = "{ organization { name } }";
const PROJECTS: &str = "{ organization { projects { nodes { name } } } }";

/// A primary, its replica, and a server over both.
struct Pair {
    primary: Cluster,
    replica: Cluster,
    server: ServerProcess,
    answers: Answers,
}

/// Answers of which `Served-By` said who gave them. How many the primary gives before the replica
/// has caught up is not the test's to say.
#[derive(Default)]
struct Answers {
    by_replica: AtomicUsize,
    by_primary: AtomicUsize,
}

impl Pair {
    async fn start() -> Self {
        let primary = Cluster::start(&[]);
        let replica = primary.standby("replica");
        let server = ServerProcess::start(
            &primary.url(),
            &[("DATABASE_REPLICA_URL", replica.url().as_str())],
        );
        let pair = Self { primary, replica, server, answers: Answers::default() };
        pair.serves(&[("max-staleness", "30")], "replica").await;
        pair
    }

    fn client(&self, slug: &str, subject: &str) -> Client {
        Client::new(format!("{}/org/{slug}/graphql", self.server.base), Some(app::token(subject)))
    }

    fn owner(&self) -> Client {
        self.client("acme", "acme-owner")
    }

    async fn ask(&self, query: &str, headers: &[(&str, &str)]) -> Reply {
        let reply = ask(&self.owner(), query, headers).await;
        let answers = match served_by(&reply) {
            Some("replica") => &self.answers.by_replica,
            Some(_) => &self.answers.by_primary,
            None => return reply,
        };
        answers.fetch_add(1, Ordering::Relaxed);
        reply
    }

    /// Waits until this server answers an owner's query.
    async fn serves(&self, headers: &[(&str, &str)], name: &str) {
        let started = Instant::now();
        loop {
            let reply = self.ask(NAME, headers).await;
            if served_by(&reply) == Some(name) {
                return;
            }
            let context = format!("{reply:?} {}", self.server.log());
            assert!(started.elapsed() < HANG, "{context}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn pause(&self) {
        self.replica.execute(&["SELECT pg_wal_replay_pause()"]).await;
        while self.replica.value::<String>("SELECT pg_get_wal_replay_pause_state()").await
            != "paused"
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn resume(&self) {
        self.replica.execute(&["SELECT pg_wal_replay_resume()"]).await;
    }

    /// Creates a project and returns the reported write position.
    async fn create(&self, name: &str) -> String {
        let reply = self.ask(&create(name), &[]).await;
        let position = reply.headers["write-position"].to_str().unwrap().to_owned();
        reply.data();
        position
    }
}

async fn ask(client: &Client, query: &str, headers: &[(&str, &str)]) -> Reply {
    let request = client.post().json(&json!({ "query": query }));
    Reply::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
        .await
}

fn create(name: &str) -> String {
    format!("mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ id }} }} }}")
}

fn served_by(reply: &Reply) -> Option<&str> {
    reply.headers.get("served-by").map(|value| value.to_str().unwrap())
}

#[track_caller]
fn names(reply: Reply) -> Vec<String> {
    let data = reply.data();
    let nodes = data["organization"]["projects"]["nodes"].as_array().unwrap().clone();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_changes_are_visible_and_others_within_the_requested_staleness() {
    let pair = Pair::start().await;
    pair.pause().await;
    let position = pair.create("Jet pack").await;
    let last = String::from("Jet pack");

    // Only the primary has the change.
    let stale = pair.ask(PROJECTS, &[("max-staleness", "30")]).await;
    assert_eq!(served_by(&stale), Some("replica"));
    assert!(!names(stale).contains(&last), "the replica does not have it");
    let plain = pair.ask(PROJECTS, &[]).await;
    assert_eq!((served_by(&plain), plain.headers.get("write-position")), (None, None));
    assert!(names(plain).contains(&last), "without the header only the primary is used");
    let own = pair.ask(PROJECTS, &[("max-staleness", "30"), ("write-position", &position)]).await;
    assert_eq!(served_by(&own), Some("primary"));
    assert!(names(own).contains(&last));
    let alone = pair.ask(PROJECTS, &[("write-position", &position)]).await;
    assert_eq!(served_by(&alone), None);
    assert!(names(alone).contains(&last));

    // A second later this is too old for a client that allows one second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let bounded = pair.ask(PROJECTS, &[("max-staleness", "1")]).await;
    assert_eq!(served_by(&bounded), Some("primary"));
    assert!(names(bounded).contains(&last));
    assert_eq!(served_by(&pair.ask(NAME, &[("max-staleness", "0")]).await), Some("primary"));
    let lenient = pair.ask(PROJECTS, &[("max-staleness", "30")]).await;
    assert_eq!(served_by(&lenient), Some("replica"));

    pair.resume().await;
    let headers = [("max-staleness", "1"), ("write-position", position.as_str())];
    pair.serves(&headers, "replica").await;
    let own = pair.ask(PROJECTS, &headers).await;
    assert_eq!(served_by(&own), Some("replica"));
    assert!(names(own).contains(&last));
    let application = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenantry' AND usename = 'tenantry_app'";
    assert!(pair.replica.value::<i64>(application).await > 0);
    let figures = reqwest::get(format!("{}/metrics", pair.server.admin)).await.unwrap();
    let figures = figures.text().await.unwrap();
    let Answers { by_replica, by_primary } = &pair.answers;
    let queries = |name: &str, count: &AtomicUsize| {
        let count = count.load(Ordering::Relaxed);
        format!("tenantry_replica_queries_total{{served_by=\"{name}\"}} {count}")
    };
    for line in [
        "tenantry_pool_connections{pool=\"replica\",state=\"waiting\"} 0".to_owned(),
        queries("replica", by_replica),
        queries("primary", by_primary),
    ] {
        assert!(figures.lines().any(|figure| figure == line), "{line} is not in\n{figures}");
    }

    // An idle primary does not make its replica stale.
    tokio::time::sleep(Duration::from_secs(3)).await;
    pair.serves(&headers, "replica").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_own_change_is_missed_while_the_replica_lags() {
    let pair = Pair::start().await;
    let behind = "ALTER SYSTEM SET recovery_min_apply_delay = '300ms'";
    pair.replica.execute(&[behind, "SELECT pg_reload_conf()"]).await;
    let (mut at_replica, mut at_primary) = (0, 0);
    let query = "{ organization { projects(first: 1) { nodes { name } } } }";
    let started = Instant::now();
    // At least 80 rounds, and as many as it takes to see both servers often.
    let is_shown = |at_replica, at_primary| at_replica > 5 && at_primary > 5;
    for round in 0.. {
        if round >= 80 && (is_shown(at_replica, at_primary) || started.elapsed() > 3 * HANG) {
            break;
        }
        let name = format!("Round {round}");
        let position = pair.create(&name).await;
        // Before, after, and during its replay.
        tokio::time::sleep(Duration::from_millis(round * 7 % 600)).await;
        let headers = [("max-staleness", "60"), ("write-position", position.as_str())];
        let reply = pair.ask(query, &headers).await;
        match served_by(&reply) {
            Some("replica") => at_replica += 1,
            _ => at_primary += 1,
        }
        assert_eq!(names(reply), [name]);
    }
    let context = format!("{at_replica} by the replica, {at_primary} by the primary");
    assert!(is_shown(at_replica, at_primary), "{context}, so the test shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_use_the_primary_and_a_batch_sees_its_own_changes() {
    let pair = Pair::start().await;
    pair.pause().await;
    let changed = pair.ask(&create("Anvil"), &[("max-staleness", "30")]).await;
    assert_eq!(served_by(&changed), Some("primary"));
    assert!(changed.headers.contains_key("write-position"));
    changed.data();

    let batch = json!([{ "query": NAME }, { "query": create("Piano") }, { "query": PROJECTS }]);
    let request = pair.owner().post().header("max-staleness", "30").json(&batch);
    let reply = Reply::of(request).await;
    assert_eq!(served_by(&reply), Some("primary"));
    assert!(reply.headers.contains_key("write-position"));
    assert!(reply.body[2].to_string().contains("Piano"), "{reply:?}");

    // A repetition returns the position of the original.
    let request = || {
        let key = ("idempotency-key", "73b7a2d0-7a0d-4f0c-8f0b-2f5a9f6f1c11");
        pair.owner().post().header(key.0, key.1).json(&json!({ "query": create("Rope") }))
    };
    let (first, again) = (Reply::of(request()).await, Reply::of(request()).await);
    assert!(again.headers.contains_key("idempotency-replayed"), "{again:?}");
    assert!(again.headers["write-position"] >= first.headers["write-position"]);

    // A failed mutation returns no position.
    let refused =
        pair.ask("mutation { deleteProject(input: { id: \"x\" }) { project { id } } }", &[]);
    assert_eq!(refused.await.headers.get("write-position"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_are_decided_as_at_the_primary() {
    let pair = Pair::start().await;
    let stale = [("max-staleness", "30")];
    let outsider = pair.client("acme", "globex-owner");
    ask(&outsider, NAME, &stale).await.assert_refused(404, "NOT_FOUND");
    ask(&pair.client("nowhere", "acme-owner"), NAME, &stale).await.assert_refused(404, "NOT_FOUND");
    let own = ask(&pair.client("globex", "globex-owner"), PROJECTS, &stale).await;
    assert_eq!(served_by(&own), Some("replica"));
    let theirs = names(own);
    let ours = names(pair.ask(PROJECTS, &stale).await);
    assert!(!theirs.is_empty() && !ours.is_empty());
    assert!(theirs.iter().all(|name| !ours.contains(name)), "{theirs:?} {ours:?}");
    // The same for a look-up by id.
    let query = "{ organization { projects(first: 1) { nodes { id } } } }";
    let found = ask(&pair.client("globex", "globex-owner"), query, &stale).await.data();
    let id = found["organization"]["projects"]["nodes"][0]["id"].as_str().unwrap().to_owned();
    let foreign = pair.ask(&format!("{{ node(id: \"{id}\") {{ id }} }}"), &stale).await;
    assert_eq!(served_by(&foreign), Some("replica"));
    assert_eq!(foreign.data()["node"], Value::Null);

    // A user unknown to the replica is resolved at the primary.
    pair.pause().await;
    let url = format!("{}/graphql", pair.server.base);
    let outsider = Client::new(url, Some(app::token("never-seen-before")));
    let reply = ask(&outsider, "{ viewer { id } }", &stale).await;
    assert_eq!(served_by(&reply), Some("primary"));
    reply.data();
    let found = "mutation { createOrganization(input: { name: \"New\", slug: \"brand-new\" }) { organization { id } } }";
    ask(&outsider, found, &[]).await.data();
    let inside = ask(&pair.client("brand-new", "never-seen-before"), NAME, &stale).await;
    assert_eq!(served_by(&inside), Some("primary"));
    assert_eq!(inside.data()["organization"]["name"], "New");
    let fourth = ask(&pair.client("brand-new", "acme-owner"), NAME, &stale).await;
    fourth.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_replica_delays_no_request() {
    let mut pair = Pair::start().await;
    let stale = [("max-staleness", "30")];
    pair.replica.kill();
    for _ in 0..20 {
        let started = Instant::now();
        let reply = pair.ask(PROJECTS, &stale).await;
        assert_eq!(served_by(&reply), Some("primary"));
        assert!(!names(reply).is_empty());
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    assert_eq!(pair.server.log().matches("the replica cannot be used").count(), 1);
    pair.replica.resume();
    pair.serves(&stale, "replica").await;

    // A promoted standby is no longer a replica.
    pair.replica.promote();
    let started = Instant::now();
    while served_by(&pair.ask(NAME, &stale).await) == Some("replica") {
        assert!(started.elapsed() < HANG);
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..5 {
        assert_eq!(served_by(&pair.ask(NAME, &stale).await), Some("primary"));
    }
    assert_eq!(
        pair.server.log().matches("the server at DATABASE_REPLICA_URL is not a standby").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_serves_for_a_lost_primary_within_the_allowed_staleness() {
    let mut pair = Pair::start().await;
    pair.primary.kill();
    let reply = pair.ask(NAME, &[("max-staleness", "30")]).await;
    assert_eq!(served_by(&reply), Some("replica"));
    reply.data();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    pair.ask(NAME, &[("max-staleness", "2")]).await.assert_refused(503, "UNAVAILABLE");
    assert_eq!(pair.ask(NAME, &[("max-staleness", "30")]).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_conflicts_with_replay_is_repeated_at_the_primary() {
    let pair = Pair::start().await;
    let no_delay = "ALTER SYSTEM SET max_standby_streaming_delay = 0";
    pair.replica.execute(&[no_delay, "SELECT pg_reload_conf()"]).await;
    let done = Arc::new(AtomicBool::new(false));
    let by_replica = Arc::new(AtomicUsize::new(0));
    let (owner, stop, counter) = (pair.owner(), Arc::clone(&done), Arc::clone(&by_replica));
    let asking = tokio::spawn(async move {
        let query = "{ organization { members { nodes { user { name } } } projects { totalCount nodes { name createdBy { name } } } } }";
        while !stop.load(Ordering::Relaxed) {
            let reply = ask(&owner, query, &[("max-staleness", "60")]).await;
            if served_by(&reply) == Some("replica") {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            assert!(reply.data()["organization"]["projects"]["totalCount"].as_i64() > Some(0));
        }
    });
    // Replay cancels the query that holds the lock.
    let connection = pair.primary.connect_admin().await;
    let started = Instant::now();
    let failed = "the replica failed; the primary serves the request";
    while !pair.server.log().contains(failed) || by_replica.load(Ordering::Relaxed) == 0 {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "no query was cancelled: {}",
            pair.server.log()
        );
        let lock = "BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE; SELECT txid_current(); COMMIT";
        connection.batch(lock).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    asking.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_headers_are_rejected() {
    let pair = Pair::start().await;
    for (name, value) in [
        ("max-staleness", ""),
        ("max-staleness", "-1"),
        ("max-staleness", "+1"),
        ("max-staleness", "1.5"),
        ("max-staleness", "5s"),
        ("max-staleness", "99999999999"),
        ("write-position", ""),
        ("write-position", "0/3000148"),
        ("write-position", "ffffffffffffffff"),
        ("write-position", "'; SELECT 1; --"),
    ] {
        let reply = pair.ask(NAME, &[(name, value)]).await;
        reply.assert_refused(400, "UNSUPPORTED_REQUEST");
        let message = reply.body["errors"][0]["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains(name), "{message}");
    }
    let twice = [("max-staleness", "1"), ("max-staleness", "2")];
    pair.ask(NAME, &twice).await.assert_refused(400, "UNSUPPORTED_REQUEST");
    // Only the primary can serve a position in the future.
    let far = [("max-staleness", "30"), ("write-position", "7fffffffffffffff")];
    assert_eq!(served_by(&pair.ask(NAME, &far).await), Some("primary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_a_replica_is_reported_at_the_start() {
    let primary = Cluster::start(&[]);
    let itself =
        ServerProcess::start(&primary.url(), &[("DATABASE_REPLICA_URL", primary.url().as_str())]);
    let warning = "it is not a standby of the database at DATABASE_URL";
    assert!(itself.log().contains(warning), "{}", itself.log());
    let client =
        Client::new(format!("{}/org/acme/graphql", itself.base), Some(app::token("acme-owner")));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let reply = ask(&client, NAME, &[("max-staleness", "30")]).await;
        assert_eq!(served_by(&reply), Some("primary"));
        reply.data();
    }
    let mut command = tenantry_child();
    let elsewhere = primary.url().replace("tenantry_app", "postgres");
    command
        .arg("serve")
        .env("DATABASE_URL", primary.url())
        .env("DATABASE_REPLICA_URL", elsewhere)
        .env("JWT_SECRET", app::SECRET);
    let refused = process::run(&mut command);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("DATABASE_REPLICA_URL must name the same role"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_replica_the_headers_have_no_effect() {
    let app = crate::support::App::start().await;
    let owner = app.user("acme-owner");
    let reply = ask(&owner, NAME, &[("max-staleness", "30")]).await;
    assert_eq!(served_by(&reply), Some("primary"));
    let changed = ask(&owner, &create("Glue"), &[]).await;
    assert_eq!(changed.headers.get("write-position"), None);
    changed.data();
}

#[test]
fn a_standby_is_not_migrated() {
    let primary = Cluster::start(&[]);
    let standby = primary.standby("standby");
    let mut command = tenantry();
    command.arg("migrate").env("MIGRATION_DATABASE_URL", standby.url_of("app", "postgres"));
    process::failed(
        &process::run(&mut command),
        "it is a standby. Use the address of the primary.",
    );
}
