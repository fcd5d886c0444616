//! Callers without an organization, whose load no organization's limit covers. Any number of them
//! leaves the service to members, and one of them leaves it to the others.

use std::{num::NonZeroU32, time::Duration};

use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tenantry::admission::Source;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::{App, AppSettings, Client, Reply, app::token, database::Database};

const PLANS: &str = "{ plans { key } }";
const NAME: &str = "{ organization { name } }";
const FEW: u32 = 3;

type Send<'app> = Box<dyn Fn() -> reqwest::RequestBuilder + 'app>;

fn app_with_few_operations() -> NonZeroU32 {
    NonZeroU32::new(FEW).unwrap()
}

/// Makes each request for plans wait in the database.
async fn lock_plans(app: &App) -> pg::Client {
    let connection = app.database.connect_admin().await;
    connection.batch("BEGIN; LOCK TABLE billing.plans IN ACCESS EXCLUSIVE MODE").await.unwrap();
    connection
}

fn ask(client: &Client, times: usize) -> Vec<JoinHandle<Reply>> {
    let one = || {
        let client = client.clone();
        tokio::spawn(async move { client.query(PLANS).await })
    };
    (0..times).map(|_| one()).collect()
}

async fn wait_for_load(app: &App, load: (usize, usize)) {
    let reached = async {
        while app.service.concurrency.load() != load {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
    assert!(reached.is_ok(), "{:?} instead of {load:?}", app.service.concurrency.load());
}

async fn app_with_one_outside_permit(waiting: usize) -> App {
    let settings = AppSettings {
        outside: 1,
        waiting,
        turn_wait: Duration::from_mins(1),
        ..AppSettings::default()
    };
    let database = Database::create().await;
    // On a slow machine the lock timeout would end the waits before the test is done. Roles belong
    // to the cluster: the setting is one of this database alone.
    let name = &database.name;
    let patient = format!("ALTER ROLE tenantry_app IN DATABASE {name} SET lock_timeout = 0");
    database.execute(&patient).await;
    App::on(database, AppSettings { timeout: Duration::from_mins(2), ..settings }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outsiders_leave_connections_to_members() {
    let app = app_with_one_outside_permit(256).await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    let outsiders = [app.outsider("one"), app.outsider("another")];
    for outsider in &outsiders {
        outsider.data("{ viewer { id } }").await;
    }
    let lock = lock_plans(&app).await;
    let stuck: Vec<_> = outsiders.iter().flat_map(|outsider| ask(outsider, 10)).collect();
    // One of twenty requests is in the database. Earlier versions let each outsider use half of the
    // connections.
    wait_for_load(&app, (1, 19)).await;
    for reply in join_all((0..8).map(|_| owner.query(NAME))).await {
        reply.data();
    }
    // A member without a cached session does not wait behind them either.
    app.user("acme-viewer").data(NAME).await;
    assert_eq!(app.service.concurrency.load(), (1, 19));
    lock.close().await;
    for stuck in stuck {
        stuck.await.unwrap().data();
    }
    wait_for_load(&app, (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_outsider_does_not_fill_the_queue_of_the_others() {
    let app = app_with_one_outside_permit(2).await;
    let (greedy, modest) = (app.outsider("greedy"), app.outsider("modest"));
    greedy.data(PLANS).await;
    modest.data(PLANS).await;
    let lock = lock_plans(&app).await;
    let stuck = ask(&greedy, 3);
    wait_for_load(&app, (1, 2)).await;
    let refused = greedy.query(PLANS).await;
    refused.assert_refused(429, "RATE_LIMITED");
    assert!(refused.headers.contains_key("retry-after"));
    let waiting = ask(&modest, 1);
    wait_for_load(&app, (1, 3)).await;
    lock.close().await;
    for reply in stuck.into_iter().chain(waiting) {
        reply.await.unwrap().data();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_of_many_users_wait_and_are_served() {
    // As after a restart: neither the users nor the document were seen before.
    let app = app_with_one_outside_permit(1).await;
    let lock = lock_plans(&app).await;
    let outsiders: Vec<_> = (0..30).map(|n| app.outsider(&format!("user-{n}"))).collect();
    let first: Vec<_> = outsiders.iter().flat_map(|outsider| ask(outsider, 1)).collect();
    wait_for_load(&app, (1, 29)).await;
    lock.close().await;
    for reply in first {
        reply.await.unwrap().data();
    }
    wait_for_load(&app, (0, 0)).await;
}

#[tokio::test]
async fn new_documents_wait_for_each_other_and_cached_ones_do_not() {
    let settings = AppSettings { reading: 1, turn_wait: Duration::ZERO, ..AppSettings::default() };
    let app = App::with(settings).await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    let reading = app.service.concurrency.acquire_reading(Source::default()).await.unwrap();
    for new in ["{ organization { slug } }", "{ nothing }", "{ __schema { queryType { name } } }"] {
        let refused = owner.query(new).await;
        refused.assert_refused(429, "RATE_LIMITED");
        assert_eq!(refused.headers["retry-after"], "1");
    }
    owner.data(NAME).await;
    drop(reading);
    owner.data("{ __schema { queryType { name } } }").await;
    // Cached, but introspection is computed each time.
    let reading = app.service.concurrency.acquire_reading(Source::default()).await.unwrap();
    owner.query("{ __schema { queryType { name } } }").await.assert_refused(429, "RATE_LIMITED");
    drop(reading);
    assert_eq!(app.service.concurrency.load(), (0, 0));
}

#[tokio::test]
async fn every_request_of_a_user_counts() {
    let app =
        App::with(AppSettings { operations: app_with_few_operations(), ..AppSettings::default() })
            .await;
    let post = |client: &Client, query: &str| client.post().json(&json!({ "query": query }));
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let (outsider, parsed) = (app.outsider("outsider"), app.outsider("parsed"));
    let (explorer, member) = (app.outsider("explorer"), app.user("acme-member"));
    let (reader, unknown) = (app.user("acme-viewer"), app.outsider("unknown"));
    let ways: [Send<'_>; 6] = [
        Box::new(|| post(&outsider, "{ viewer { id } }")),
        Box::new(|| post(&parsed, "{ nothing")),
        Box::new(|| post(&explorer, "{ __schema { queryType { name } } }")),
        Box::new(|| post(&member, create).header("idempotency-key", "key")),
        Box::new(|| reader.get().query(&[("query", NAME)])),
        Box::new(|| unknown.post().header("content-type", "application/json").body("no JSON")),
    ];
    for (way, send) in ways.iter().enumerate() {
        for _ in 0..FEW {
            let reply = Reply::of(send()).await;
            assert_ne!(reply.status, 429, "{way}: {reply:?}");
        }
        let refused = Reply::of(send()).await;
        refused.assert_refused(429, "RATE_LIMITED");
        assert!(refused.headers.contains_key("retry-after"), "{way}: {refused:?}");
    }
    // Another user at the same address is not affected.
    app.user("acme-owner").data(NAME).await;
    let metrics = crate::metrics::figures(&app).await;
    assert!(
        metrics.lines().any(|line| line == "tenantry_limits_hit_total{limit=\"rate\"} 6"),
        "{metrics}"
    );
}

#[tokio::test]
async fn each_operation_of_a_batch_counts_before_any_is_executed() {
    let app =
        App::with(AppSettings { operations: app_with_few_operations(), ..AppSettings::default() })
            .await;
    let create = "mutation { createProject(input: { name: \"counted\" }) { project { id } } }";
    let create = json!({ "query": create });
    let batch = Value::from(vec![create; FEW as usize]);
    let member = app.user("acme-member");
    assert_eq!(member.send(&batch).await.status, 200);
    app.user("acme-admin").query(NAME).await.data();
    app.user("acme-admin").send(&batch).await.assert_refused(429, "RATE_LIMITED");
    let sql = "SELECT count(*) FROM app.projects WHERE name = 'counted'";
    assert_eq!(app.database.value::<i64>(sql).await, i64::from(FEW));
}

#[tokio::test]
async fn a_large_request_counts_as_several() {
    let operations = NonZeroU32::new(100).unwrap();
    let app = App::with(AppSettings { operations, ..AppSettings::default() }).await;
    let large = json!({ "query": format!("{{ nothing {} }}", "#".repeat(300 * 1024)) });
    let outsider = app.outsider("outsider");
    assert_eq!(outsider.send(&large).await.status, 400);
    outsider.send(&large).await.assert_refused(429, "RATE_LIMITED");
}

#[tokio::test]
async fn messages_over_a_websocket_count() {
    let app =
        App::with(AppSettings { operations: app_with_few_operations(), ..AppSettings::default() })
            .await;
    let url = format!("{}/graphql", app.base).replacen("http", "ws", 1);
    let mut request = url.into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let authorization = format!("Bearer {}", token("outsider"));
    let init = json!({ "type": "connection_init", "payload": { "Authorization": authorization } });
    let mut messages = vec![init];
    for id in 0..=FEW {
        let payload = json!({ "query": "{ viewer { id } }" });
        messages.push(json!({ "type": "subscribe", "id": id.to_string(), "payload": payload }));
    }
    for message in messages {
        socket.send(Message::Text(message.to_string().into())).await.unwrap();
    }
    let (mut completed, mut refused) = (0, None);
    while completed < FEW || refused.is_none() {
        let message = tokio::time::timeout(Duration::from_mins(1), socket.next()).await;
        let Message::Text(text) = message.expect("no response").unwrap().unwrap() else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        completed += u32::from(message["type"] == "complete");
        if message["type"] == "error" {
            assert_eq!(message["payload"][0]["extensions"]["code"], "RATE_LIMITED", "{message}");
            refused = Some(message["id"].clone());
        }
    }
    assert_eq!(refused, Some(json!(FEW.to_string())));
}

#[tokio::test]
async fn an_address_is_limited_for_all_its_users_except_for_health_checks() {
    let app = App::with(AppSettings {
        operations_by_address: app_with_few_operations(),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..AppSettings::default()
    })
    .await;
    let from = |address: &str, n: u32| {
        let request = app.outsider(&format!("outsider-{n}")).post();
        let request = request.header("x-forwarded-for", address);
        Reply::of(request.json(&json!({ "query": "{ viewer { id } }" })))
    };
    for n in 0..FEW {
        from("203.0.113.7", n).await.data();
        // A network of 64 bits counts as one address.
        from(&format!("2001:db8:1:2::{n}"), n).await.data();
    }
    from("203.0.113.7", FEW).await.assert_refused(429, "RATE_LIMITED");
    from("2001:db8:1:2:ffff::1", FEW).await.assert_refused(429, "RATE_LIMITED");
    from("203.0.113.8", FEW).await.data();
    from("2001:db8:1:3::1", FEW).await.data();
    let schema = reqwest::Client::new().get(format!("{}/schema.graphql", app.base));
    let schema = schema.bearer_auth(token("builder")).header("x-forwarded-for", "203.0.113.7");
    Reply::of(schema).await.assert_refused(429, "RATE_LIMITED");
    for base in [&app.base, &app.admin] {
        for path in ["healthz", "readyz"] {
            let request = reqwest::Client::new().get(format!("{base}/{path}"));
            let request = request.header("x-forwarded-for", "203.0.113.7");
            assert_eq!(Reply::of(request).await.status, 200, "{base}/{path}");
        }
    }
}
