//! Subscriptions with common client libraries: every committed change reaches every subscriber who
//! may see it, on every server.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};

use crate::support::{
    App, AppSettings, Client, HANG, app,
    database::Database,
    node::Script,
    placement::{ACME, GLOBEX},
    process,
    websocket::Socket,
};

const PROJECTS: &str = "subscription { projectChanged { id project { name createdBy { name } } } }";
const MEMBERS: &str = "subscription { memberChanged { member { role user { name } } } }";
const AUDIT: &str = "subscription { auditLogAdded { action actorName actor { name } } }";
const ENTITLEMENTS: &str = "subscription { entitlementChanged { feature { key } limit used } }";

/// How long an event may take on a busy machine, in milliseconds.
const LONG: u64 = 60_000;

/// The seconds for which a token is accepted after its expiry.
const LEEWAY: i64 = 30;

struct Subscriber {
    script: Script,
    count: usize,
}

/// Ends the test with a message if npm is not installed.
macro_rules! subscriber_or_skip {
    () => {
        match Script::start("subscriber.mjs").await {
            Some(script) => Subscriber { script, count: 0 },
            None => {
                eprintln!("SKIPPED: npm is missing");
                return;
            }
        }
    };
}

impl Subscriber {
    fn subscribe(&mut self, over: &str, client: &Client, token: &str, query: &str) -> String {
        self.count += 1;
        let id = self.count.to_string();
        self.script.ask(&json!({
            "do": "subscribe", "over": over, "id": id, "url": client.url, "token": token, "query": query,
        }));
        id
    }

    /// Subscribes as a demo user in their organization.
    fn user(&mut self, over: &str, app: &App, subject: &str, query: &str) -> String {
        self.subscribe(over, &app.user(subject), &app::token(subject), query)
    }

    fn next_within(&mut self, id: &str, milliseconds: u64) -> Value {
        self.script.ask(&json!({ "do": "next", "id": id, "milliseconds": milliseconds }))
    }

    #[track_caller]
    fn next(&mut self, id: &str) -> Value {
        let event = self.next_within(id, LONG);
        assert!(event["data"].is_object(), "{event}");
        event["data"].clone()
    }

    /// Returns the code of the first error at the end of a subscription.
    fn end(&mut self, id: &str) -> String {
        code(&self.next_within(id, LONG))
    }

    fn silent(&mut self, id: &str) {
        assert_eq!(self.next_within(id, 400), Value::Null);
    }
}

/// The code of the first error of an event, or the event.
fn code(event: &Value) -> String {
    let errors = [&event["errors"], &event["failed"]["errors"]];
    let code = errors.iter().find_map(|errors| errors[0]["extensions"]["code"].as_str());
    code.map_or_else(|| event.to_string(), ToOwned::to_owned)
}

/// Waits until this many subscriptions are active. A subscription starts after the client's
/// request.
async fn wait_for_subscriptions(app: &App, count: usize) {
    let start = std::time::Instant::now();
    loop {
        let listening: i64 = app
            .database
            .value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
            .await;
        let active =
            [app.service.databases.change_feed().subscribers(), app.server.subscriptions.sources()];
        if active == [count; 2] && (listening > 0 || count == 0) {
            return;
        }
        assert!(start.elapsed() < HANG, "{count} never watch");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn create(client: &Client, name: &str) -> Value {
    let query = format!(
        "mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ id }} }} }}"
    );
    client.query(&query).await.data()["createProject"]["project"]["id"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_published_after_its_commit_on_every_server_to_its_tenant_only() {
    let mut subscriber = subscriber_or_skip!();
    let database = Database::create().await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    let other = App::on(database, AppSettings::default()).await;
    let sockets = subscriber.user("ws", &app, "acme-viewer", PROJECTS);
    let events = subscriber.user("sse", &other, "acme-member", PROJECTS);
    let foreign = subscriber.user("ws", &other, "globex-owner", PROJECTS);
    wait_for_subscriptions(&app, 1).await;
    wait_for_subscriptions(&other, 2).await;
    let owner = app.user("acme-owner");
    // A mutation that is rolled back publishes nothing.
    let failing = "mutation { createProject(input: { name: \"never\" }) { project { id } }
                     deleteProject(input: { id: \"none\" }) { project { id } } }";
    owner.query(failing).await.assert_failed("NOT_FOUND");
    let id = create(&owner, "Live").await;
    let expected = json!({ "projectChanged": { "id": id, "project": { "name": "Live", "createdBy": { "name": "Olivia" } } } });
    assert_eq!(subscriber.next(&sockets), expected);
    assert_eq!(subscriber.next(&events), expected);
    let delete =
        format!("mutation {{ deleteProject(input: {{ id: {id} }}) {{ project {{ id }} }} }}");
    owner.query(&delete).await.data();
    let expected = json!({ "projectChanged": { "id": id, "project": null } });
    assert_eq!(subscriber.next(&sockets), expected);
    assert_eq!(subscriber.next(&events), expected);
    subscriber.silent(&foreign);
    create(&other.user("globex-owner"), "Elsewhere").await;
    assert_eq!(subscriber.next(&foreign)["projectChanged"]["project"]["name"], "Elsewhere");
    subscriber.silent(&sockets);
    for id in [&sockets, &events] {
        subscriber.script.ask(&json!({ "do": "stop", "id": id }));
    }
    wait_for_subscriptions(&app, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_topic_has_its_events() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let members = subscriber.user("sse", &app, "acme-viewer", MEMBERS);
    let audit = subscriber.user("ws", &app, "acme-admin", AUDIT);
    let entitlements = subscriber.user("ws", &app, "acme-viewer", ENTITLEMENTS);
    wait_for_subscriptions(&app, 3).await;
    let owner = app.user("acme-owner");
    create(&owner, "Counted").await;
    assert_eq!(
        subscriber.next(&audit),
        json!({ "auditLogAdded": { "action": "project.created", "actorName": "Olivia", "actor": { "name": "Olivia" } } })
    );
    assert_eq!(
        subscriber.next(&entitlements),
        json!({ "entitlementChanged": { "feature": { "key": "projects" }, "limit": 50, "used": 5 } })
    );
    let membership: String = app
        .database
        .value("SELECT m.id::text FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id WHERE u.email = 'acme-member@example.com'")
        .await;
    let promote = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{membership}\", role: VIEWER }}) {{ member {{ id }} }} }}"
    );
    owner.query(&promote).await.data();
    assert_eq!(
        subscriber.next(&members),
        json!({ "memberChanged": { "member": { "role": "VIEWER", "user": { "name": "Mia" } } } })
    );
    assert_eq!(subscriber.next(&audit)["auditLogAdded"]["action"], "member.role_changed");
    owner
        .query(
            "mutation { changePlan(input: { plan: \"enterprise\" }) { billing { plan { key } } } }",
        )
        .await
        .data();
    let mut received: Vec<_> = (0..3)
        .map(|_| {
            subscriber.next(&entitlements)["entitlementChanged"]["feature"]["key"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    received.sort_unstable();
    assert_eq!(received, ["api_calls_per_month", "projects", "team_members"]);
    subscriber.silent(&members);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_catalogue_and_the_end_of_an_exception_reach_subscribers() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let (acme, globex) = ("acme-viewer", "globex-viewer");
    let acme = subscriber.user("ws", &app, acme, ENTITLEMENTS);
    let globex = subscriber.user("sse", &app, globex, ENTITLEMENTS);
    wait_for_subscriptions(&app, 2).await;
    let command = async |arguments: &'static [&'static str]| {
        let url = app.database.url("postgres");
        let run = move || {
            process::run(process::tenantry().args(arguments).env("MIGRATION_DATABASE_URL", url))
        };
        process::succeeded(&tokio::task::spawn_blocking(run).await.unwrap()).to_owned()
    };
    let limit = |limit: Value, used: i64| json!({ "entitlementChanged": { "feature": { "key": "projects" }, "limit": limit, "used": used } });
    command(&["plan", "set", "pro", "projects", "60"]).await;
    assert_eq!(subscriber.next(&acme), limit(json!(60), 4));
    subscriber.silent(&globex);
    command(&["plan", "set", "free", "projects", "5"]).await;
    let used = app
        .user("globex-owner")
        .data("{ organization { entitlement(feature: \"projects\") { used } } }")
        .await;
    let used = used["organization"]["entitlement"]["used"].as_i64().unwrap();
    assert_eq!(subscriber.next(&globex), limit(json!(5), used));
    command(&["feature", "add", "sso", "--kind", "flag"]).await;
    let flag =
        json!({ "entitlementChanged": { "feature": { "key": "sso" }, "limit": 0, "used": null } });
    assert_eq!((subscriber.next(&acme), subscriber.next(&globex)), (flag.clone(), flag));

    command(&["tenant", "allow", "globex", "projects", "9"]).await;
    assert_eq!(subscriber.next(&globex), limit(json!(9), used));
    // Nothing changes when an exception or a trial ends, but the time. The commands have the server
    // read when that is.
    let end = format!(
        "UPDATE billing.organization_features SET valid_until = now() + interval '2 seconds' WHERE organization_id = '{GLOBEX}'"
    );
    app.database.execute(&end).await;
    command(&["tenant", "allow", "globex", "sso", "on"]).await;
    let before = next_limits(&mut subscriber, &globex, 5);
    // On a busy machine, the exception may end before its end was read.
    assert!(before == [json!(9)] || before.is_empty(), "{before:?}");
    let trial = async |ends: &str| {
        let sql = format!(
            "UPDATE billing.organization_billing SET plan = 'pro', status = 'trialing', trial_ends_at = now() + interval '{ends}'
             WHERE organization_id = '{GLOBEX}'"
        );
        app.database.execute(&sql).await;
    };
    trial("1 hour").await;
    command(&["tenant", "disallow", "globex", "sso"]).await;
    assert_eq!(next_limits(&mut subscriber, &globex, 60), [Value::Null; 0]);
    trial("2 seconds").await;
    command(&["tenant", "allow", "globex", "sso", "on"]).await;
    assert_eq!(next_limits(&mut subscriber, &globex, 5), [Value::Null; 0]);
}

/// Reads events until projects have this limit. Returns their other limits before.
fn next_limits(subscriber: &mut Subscriber, id: &str, last: i64) -> Vec<Value> {
    let mut limits = Vec::new();
    loop {
        let event = subscriber.next(id)["entitlementChanged"].clone();
        if event["feature"]["key"] == "projects" {
            if event["limit"] == last {
                limits.dedup();
                return limits;
            }
            limits.push(event["limit"].clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_without_permission_gets_no_more_events() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let refused = subscriber.user("ws", &app, "acme-member", AUDIT);
    assert_eq!(subscriber.end(&refused), "FORBIDDEN");
    let outside =
        subscriber.subscribe("sse", &app.user("acme-owner"), &app::token("globex-owner"), PROJECTS);
    assert_eq!(subscriber.end(&outside), "NOT_FOUND");
    let removed = subscriber.user("sse", &app, "acme-member", PROJECTS);
    let demoted = subscriber.user("ws", &app, "acme-admin", AUDIT);
    let staying = subscriber.user("ws", &app, "acme-viewer", PROJECTS);
    wait_for_subscriptions(&app, 3).await;
    let owner = app.user("acme-owner");
    let membership = async |role: &str| -> String {
        let sql = format!(
            "SELECT m.id::text FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id WHERE u.email = 'acme-{role}@example.com'"
        );
        app.database.value(&sql).await
    };
    let remove = format!(
        "mutation {{ removeMember(input: {{ id: \"{}\" }}) {{ member {{ id }} }} }}",
        membership("member").await
    );
    owner.query(&remove).await.data();
    assert_eq!(subscriber.end(&removed), "NOT_FOUND");
    // Entries recorded while the user was an admin may still arrive.
    let demote = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{}\", role: VIEWER }}) {{ member {{ id }} }} }}",
        membership("admin").await
    );
    owner.query(&demote).await.data();
    let mut last = subscriber.next_within(&demoted, LONG);
    while last["data"].is_object() {
        assert_eq!(last["data"]["auditLogAdded"]["action"], "member.removed");
        last = subscriber.next_within(&demoted, LONG);
    }
    assert_eq!(last["errors"][0]["extensions"]["code"], "FORBIDDEN", "{last}");
    create(&owner, "Still here").await;
    assert_eq!(subscriber.next(&staying)["projectChanged"]["project"]["name"], "Still here");
    owner
        .query("mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }")
        .await
        .data();
    assert_eq!(subscriber.end(&staying), "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_with_its_token() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    for over in ["ws", "sse"] {
        // A busy machine may need longer to subscribe than the token lives. Then the next one lives
        // longer.
        let ended = (2..8).find_map(|doublings| {
            let lifetime = 1 << doublings;
            let claims =
                json!({ "sub": "acme-owner", "exp": Utc::now().timestamp() - LEEWAY + lifetime });
            let token = app::token_with(&claims);
            let id = subscriber.subscribe(over, &app.user("acme-owner"), &token, PROJECTS);
            let event = subscriber.next_within(&id, 1_000 * (lifetime.unsigned_abs() + 30));
            event["failed"]["code"].is_null().then_some(event)
        });
        assert_eq!(code(&ended.unwrap()), "UNAUTHENTICATED", "{over}");
    }
    let expired =
        app::token_with(&json!({ "sub": "acme-owner", "exp": Utc::now().timestamp() - 60 }));
    for (over, code) in [("ws", 4403), ("sse", 401)] {
        let id = subscriber.subscribe(over, &app.user("acme-owner"), &expired, PROJECTS);
        let event = subscriber.next_within(&id, LONG);
        assert_eq!(event["failed"]["code"], code, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_subscribers_nothing_is_notified_and_a_lost_connection_ends_subscriptions() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let mut listener = pg::Listener::connect(&app.database.admin(), "tenantry").await.unwrap();
    create(&owner, "Unwatched").await;
    let heard = tokio::time::timeout(Duration::from_millis(500), listener.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    let id = subscriber.user("ws", &app, "acme-viewer", PROJECTS);
    wait_for_subscriptions(&app, 1).await;
    create(&owner, "Watched").await;
    subscriber.next(&id);
    let heard = tokio::time::timeout(HANG, listener.next()).await.unwrap().unwrap();
    assert!(!heard.contains("Watched"), "ids alone: {heard}");
    app.database
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry listen' AND datname = current_database()")
        .await;
    assert_eq!(subscriber.end(&id), "UNAVAILABLE");
    let again = subscriber.user("ws", &app, "acme-viewer", PROJECTS);
    wait_for_subscriptions(&app, 1).await;
    create(&owner, "Again").await;
    assert_eq!(subscriber.next(&again)["projectChanged"]["project"]["name"], "Again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_operations_work_over_websocket_and_subscriptions_over_no_plain_response() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    for over in ["ws", "sse"] {
        let id = subscriber.user(over, &app, "acme-owner", "{ organization { name } }");
        assert_eq!(subscriber.next(&id), json!({ "organization": { "name": "Acme" } }));
        assert_eq!(subscriber.next_within(&id, LONG), json!({ "complete": true }));
        let id = subscriber.user(over, &app, "acme-owner", "subscription { nothing }");
        assert_eq!(subscriber.end(&id), "GRAPHQL_VALIDATION_FAILED", "{over}");
    }
    let owner = app.user("acme-owner");
    let reply = owner.query(PROJECTS).await;
    assert_eq!((reply.status.as_u16(), reply.codes()), (406, vec!["UNSUPPORTED_REQUEST"]));
    // A client that accepts both gets a stream for subscriptions only.
    let accepts = "application/graphql-response+json, application/json, text/event-stream";
    let ask = |query: &str| {
        let request = reqwest::Client::new().post(&owner.url).bearer_auth(app::token("acme-owner"));
        request.header("accept", accepts).json(&json!({ "query": query })).send()
    };
    let kind = |response: &reqwest::Response| {
        response.headers()["content-type"].to_str().unwrap().to_owned()
    };
    assert!(
        kind(&ask("{ __typename }").await.unwrap())
            .starts_with("application/graphql-response+json")
    );
    assert_eq!(kind(&ask(PROJECTS).await.unwrap()), "text/event-stream");
    // The same with an operation name, and with the root field in a fragment.
    let spread = "subscription { ...F } fragment F on Subscription { projectChanged { id } }";
    let by_fragment = subscriber.user("ws", &app, "acme-viewer", spread);
    wait_for_subscriptions(&app, 1).await;
    create(&owner, "Spread").await;
    assert!(subscriber.next(&by_fragment)["projectChanged"]["id"].is_string());
    // The word subscription in a string makes no stream, and a GET never executes a mutation.
    assert!(
        kind(&ask("# subscription\n{ __typename }").await.unwrap())
            .starts_with("application/graphql-response+json")
    );
    let before = app.database.fingerprint().await;
    let mutation =
        "mutation { createProject(input: { name: \"subscription\" }) { project { id } } }";
    for accept in ["text/event-stream", "application/json, text/event-stream"] {
        let request = reqwest::Client::new().get(&owner.url).bearer_auth(app::token("acme-owner"));
        let response =
            request.header("accept", accept).query(&[("query", mutation)]).send().await.unwrap();
        assert_eq!(response.status(), 405, "{accept}");
    }
    assert_eq!(app.database.fingerprint().await, before);
    let two = "subscription { projectChanged { id } memberChanged { id } }";
    assert_eq!(owner.query(two).await.codes(), ["GRAPHQL_VALIDATION_FAILED"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apollo_client_subscribes_over_http() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let id = subscriber.user("multipart", &app, "acme-viewer", PROJECTS);
    wait_for_subscriptions(&app, 1).await;
    for name in ["First", "Second"] {
        create(&app.user("acme-owner"), name).await;
        assert_eq!(subscriber.next(&id)["projectChanged"]["project"]["name"], name);
    }
    let refused = subscriber.user("multipart", &app, "acme-viewer", AUDIT);
    assert_eq!(subscriber.end(&refused), "FORBIDDEN");
}

#[tokio::test]
async fn a_multipart_response_has_a_part_for_each_result() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let request = reqwest::Client::new().post(&owner.url).bearer_auth(app::token("acme-owner"));
    let request = request
        .header("accept", "multipart/mixed;boundary=graphql;subscriptionSpec=1.0")
        .json(&json!({ "query": "{ organization { name } }" }));
    let response = request.send().await.unwrap();
    let content_type = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\"";
    assert_eq!(response.headers()["content-type"], content_type);
    assert_eq!(
        response.text().await.unwrap(),
        "\r\n--graphql\r\ncontent-type: application/json\r\n\r\n\
         {\"payload\":{\"data\":{\"organization\":{\"name\":\"Acme\"}}}}\r\n--graphql--\r\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_changes_arrive_when_connections_die_and_servers_stop() {
    let mut subscriber = subscriber_or_skip!();
    let database = Database::create().await;
    let app = App::on(database.clone(), AppSettings::default()).await;
    let other = App::on(database, AppSettings::default()).await;
    let id = subscriber.user("ws", &app, "acme-viewer", PROJECTS);
    wait_for_subscriptions(&app, 1).await;
    let owner = other.user("acme-owner");
    create(&owner, "Before").await;
    subscriber.next(&id);
    for _ in 0..3 {
        other
            .database
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry system' AND datname = current_database()")
            .await;
        create(&owner, "Still delivered").await;
        assert_eq!(subscriber.next(&id)["projectChanged"]["project"]["name"], "Still delivered");
    }
    create(&owner, "The last one").await;
    other.background.stop().await;
    assert_eq!(subscriber.next(&id)["projectChanged"]["project"]["name"], "The last one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_a_topic_of_another_version_is_ignored() {
    let app = App::start().await;
    let mut socket = Socket::open(&app, "acme-owner").await;
    socket.subscribe("1", PROJECTS).await;
    assert_eq!(socket.wait_for_messages().await, Vec::<Value>::new());
    let change = json!({ "topic": "invoice", "id": ACME, "amount": 3 });
    let notice = json!({ "organization": ACME, "changes": [change] });
    app.database.execute(&format!("SELECT pg_notify('tenantry', '{notice}')")).await;
    create(&app.user("acme-owner"), "Known").await;
    assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_is_disconnected_and_others_continue() {
    let app = App::start().await;
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let acme = entity::OrganizationId(
        uuid::Uuid::parse_str("00000000-0000-4000-8000-00000000000a").unwrap(),
    );
    let mut slow = app.service.databases.change_feed().subscribe(acme).await.unwrap();
    let mut quick = app.service.databases.change_feed().subscribe(acme).await.unwrap();
    let counting = tokio::spawn(async move {
        let mut projects = 0;
        while projects < 200 {
            projects += usize::from(quick.next().await.unwrap().topic == "project");
        }
        quick
    });
    let owner = app.user("acme-owner");
    for _ in 0..20 {
        let fields = (0..10).map(|n| {
            format!("p{n}: createProject(input: {{ name: \"x\" }}) {{ project {{ id }} }}")
        });
        owner
            .query(&format!("mutation {{ {} }}", fields.collect::<Vec<_>>().join(" ")))
            .await
            .data();
    }
    let quick = tokio::time::timeout(HANG, counting).await.unwrap().unwrap();
    assert_eq!(slow.next().await, Err(tenantry::tenancy::SubscriberEnded::Behind));
    drop((slow, quick));
    assert_eq!(app.service.databases.change_feed().subscribers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_subscribes_and_then_queries_misses_nothing() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let mut request = owner.url.replace("http", "ws").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", app::token("acme-viewer")) } });
    let list = "{ organization { projects(first: 100) { totalCount } } }";
    let messages = [
        init,
        json!({ "type": "subscribe", "id": "events", "payload": { "query": PROJECTS } }),
        json!({ "type": "subscribe", "id": "list", "payload": { "query": list } }),
    ];
    // Another client keeps writing.
    let writer = tokio::spawn(async move {
        for number in 0..12 {
            create(&owner, &format!("Race {number}")).await;
        }
    });
    for message in messages {
        socket.send(Message::Text(message.to_string().into())).await.unwrap();
    }
    let (mut counted, mut received) = (None, 0);
    while counted.is_none_or(|counted| counted + received < 4 + 12) {
        let message = tokio::time::timeout(HANG, socket.next()).await.unwrap().unwrap().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        match (message["type"].as_str().unwrap(), message["id"].as_str()) {
            ("next", Some("events")) => received += 1,
            ("next", Some("list")) => {
                counted =
                    message["payload"]["data"]["organization"]["projects"]["totalCount"].as_i64();
            }
            _ => {}
        }
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_that_select_the_root_field_together_are_one_subscription() {
    let mut subscriber = subscriber_or_skip!();
    let app = App::start().await;
    let query = "subscription { ...A ...B } fragment A on Subscription { projectChanged { id } }
        fragment B on Subscription { projectChanged { project { name } } }";
    let sockets = subscriber.user("ws", &app, "acme-member", query);
    let events = subscriber.user("sse", &app, "acme-admin", query);
    wait_for_subscriptions(&app, 2).await;
    let id = create(&app.user("acme-owner"), "Both").await;
    let expected = json!({ "projectChanged": { "id": id, "project": { "name": "Both" } } });
    for id in [sockets, events] {
        assert_eq!(subscriber.next(&id), expected);
        subscriber.silent(&id);
    }
    // Two events would be two root fields.
    let two = "subscription { ...A memberChanged { id } } fragment A on Subscription { projectChanged { id } }";
    let refused = subscriber.user("sse", &app, "acme-member", two);
    assert_eq!(subscriber.end(&refused), "GRAPHQL_VALIDATION_FAILED");
}
