//! Fields that are repeated to run a statement each time, in a document, a batch or a list of ids;
//! and what such requests leave running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};

use crate::{
    performance::relay::Relay,
    support::{
        App, AppSettings, Client, Reply, app, cluster::Cluster, database::Database, served::Served,
    },
};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";

/// Statements that the server has sent in its answers so far.
async fn statements(app: &App) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", app.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let mut lines = metrics.lines();
    let sum = lines.find_map(|line| line.strip_prefix("tenantry_request_statements_sum "));
    sum.expect("the server counts statements").parse().unwrap()
}

/// What a document answers, and how many statements that takes.
async fn cost(app: &App, client: &Client, query: &str) -> (Value, f64) {
    let before = statements(app).await;
    let data = client.data(query).await;
    (data, statements(app).await - before)
}

/// Documents that repeat the part between braces so many times.
const REPEATED: [(&str, &str, &str, usize); 9] = [
    ("{ organization { projects(first: 1) { ", "totalCount ", " } } }", 2_000),
    ("{ viewer { ", "memberships { slug } ", " } }", 300),
    ("{ ", "plans { plan } ", " }", 600),
    ("{ organization { ", "entitlements { limit } ", " } }", 400),
    ("{ organization { ", "billing { status } plan { name } ", " } }", 600),
    ("{ organization { ", "auditLogs(first: 1) { nodes { id } } ", " } }", 200),
    (
        "{ organization { ",
        "...f ",
        " } } fragment f on Organization { members { totalCount } }",
        600,
    ),
    ("mutation { query { organization { projects(first: 1) { ", "totalCount ", " } } } }", 2_000),
    (
        "{ node(id: \"00000000-0000-4000-8000-00000000000a\") { ",
        "... on Node { ... on Organization { invitations { totalCount } } } ",
        " } }",
        200,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_repeated_runs_once() {
    let app = App::start().await;
    let owner = app.person("acme-owner");
    owner.data("{ viewer { id } organization { name } }").await;
    for (before, repeated, after, times) in REPEATED {
        let once = cost(&app, &owner, &format!("{before}{repeated}{after}")).await;
        let query = format!("{before}{}{after}", repeated.repeat(times));
        assert_eq!(cost(&app, &owner, &query).await, once, "{repeated} {times} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_types_do_not_make_a_repeated_field_another_one() {
    let app = App::start().await;
    let owner = app.person("acme-owner");
    owner.data("{ viewer { id } organization { name } }").await;
    let once = "{ organization { members(first: 1) { totalCount } } }";
    let (data, least) = cost(&app, &owner, once).await;
    let all = 0..100;
    let variables =
        all.clone().map(|n| format!("$v{n}: Boolean = true ")).collect::<Vec<_>>().concat();
    let fields = all
        .clone()
        .map(|n| format!("totalCount @include(if: $v{n}) "))
        .collect::<Vec<_>>()
        .concat();
    let fragments = all
        .map(|n| format!("... @skip(if: $no) {{ ... @include(if: $v{n}) {{ totalCount }} }} "))
        .collect::<Vec<_>>()
        .concat();
    for repeated in [fields, fragments.clone()] {
        let unused = if repeated == fragments { "$no: Boolean = false " } else { "" };
        let query = format!(
            "query ({variables}{unused}) {{ organization {{ members(first: 1) {{ {repeated} }} }} }}"
        );
        assert_eq!(cost(&app, &owner, &query).await, (data.clone(), least));
        // Read before, and with other values: a condition still decides.
        let values = |value: &dyn Fn(usize) -> bool| {
            Value::Object((0..100).map(|n| (format!("v{n}"), json!(value(n)))).collect())
        };
        let some = owner.query_with(&query, values(&|n| n == 7)).await.data();
        assert_eq!(some, data);
        let none = owner.query_with(&query, values(&|_| false)).await.data();
        assert_eq!(none, json!({ "organization": { "members": {} } }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_that_is_selected_twice_is_executed_once() {
    let app = App::start().await;
    let owner = app.person("acme-owner");
    let count = "SELECT count(*) FROM app.projects WHERE name = 'Once'";
    let entries = "SELECT count(*) FROM audit.audit_logs WHERE metadata->>'name' = 'Once'";
    let create = "createProject(input: { name: \"Once\" })";
    let query = format!(
        "mutation ($yes: Boolean!) {{ {create} {{ project {{ id }} }} ...again
             {create} @include(if: $yes) {{ project {{ description }} }} }}
         fragment again on Mutation {{ {create} {{ project {{ name }} }} }}"
    );
    let data = owner.query_with(&query, json!({ "yes": true })).await.data();
    let project = &data["createProject"]["project"];
    assert_eq!((&project["name"], &project["description"]), (&json!("Once"), &Value::Null));
    assert!(project["id"].is_string() && project.get("description").is_some(), "{data}");
    assert_eq!(app.database.value::<i64>(count).await, 1);
    assert_eq!(app.database.value::<i64>(entries).await, 1);
    // With other arguments it is another field, and the document is refused.
    let other = "mutation { createProject(input: { name: \"Once\" }) { project { id } }
                     createProject(input: { name: \"Twice\" }) { project { id } } }";
    owner.query(other).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(app.database.value::<i64>(count).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sends_statements_has_a_price() {
    let mut settings = AppSettings::default();
    settings.limits.complexity = 10;
    let app = App::with(settings).await;
    let owner = app.person("acme-owner");
    owner.data("{ organization { name slug viewerRole } viewer { name } }").await;
    for dear in [
        "{ organization { projects(first: 1) { totalCount } } }",
        "{ organization { members(first: 1) { pageInfo { endCursor } } } }",
        "{ organization { entitlements { used } } }",
        "{ organization { plan { name } } }",
        "{ organization { billing { status } } }",
        "{ viewer { memberships { slug } } }",
        "{ plans { name } }",
    ] {
        owner.query(dear).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    }
}

/// The same organization, so many times, with statements each time.
fn of_one_organization(times: usize) -> String {
    let ids = vec![format!("\"{ACME}\""); times].join(" ");
    format!(
        "nodes(ids: [{ids}]) {{ ... on Organization {{ projects(first: 1) {{ totalCount }} }} }}"
    )
}

#[tokio::test]
async fn an_operation_that_needs_too_many_statements_fails_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let relay = Relay::between(folder.path(), &database.socket()).unwrap();
    let mut settings = AppSettings { max_connections: 1, ..AppSettings::default() };
    settings.socket = Some(folder.path().to_owned());
    settings.cost.statements = 40;
    let app = App::on(database, settings).await;
    let owner = app.person("acme-owner");
    owner.data("{ organization { projects(first: 1) { totalCount } } }").await;
    relay.take();
    let query = of_one_organization(90);
    owner.query(&format!("{{ {query} }}")).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    let before = app.database.fingerprint().await;
    let create = "createProject(input: { name: \"Never\" }) { project { id } }";
    let mutation = format!("mutation {{ {create} query {{ {query} }} }}");
    owner.query(&mutation).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    assert_eq!(app.database.fingerprint().await, before);
    // What begins and ends the two transactions, and counts calls, comes on top.
    let sent = relay.take().statements;
    assert!(sent < 2 * 40 + 20, "{sent} statements");
    owner.data(&format!("{{ {} }}", of_one_organization(10))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_of_a_batch_share_the_statements_of_one() {
    let mut settings = AppSettings::default();
    settings.cost.statements = 40;
    let app = App::with(settings).await;
    let owner = app.person("acme-owner");
    let one = json!({ "query": format!("{{ {} }}", of_one_organization(10)) });
    let before = app.database.fingerprint().await;
    let create = json!({ "query": "mutation { createProject(input: { name: \"Late\" }) { project { id } } }" });
    let mut batch = vec![one; 9];
    batch.push(create);
    let reply = owner.send(&Value::Array(batch)).await;
    let answers = reply.body.as_array().unwrap();
    assert_eq!(answers.len(), 10, "{reply:?}");
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(codes[0], "none", "{reply:?}");
    assert!(codes[2..].iter().all(|code| *code == "QUERY_TOO_COMPLEX"), "{codes:?}");
    assert!(answers[9].get("data").is_none(), "{reply:?}");
    assert_eq!(app.database.fingerprint().await, before);
    // The next request has a budget again.
    owner.data("mutation { createProject(input: { name: \"Late\" }) { project { id } } }").await;
}

/// The table of projects, for as long as the connection lives.
async fn held_up(cluster: &Cluster) -> PgConnection {
    let mut admin = cluster.connect_admin().await;
    admin.execute("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    admin
}

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
const CANCELLED: &str = "canceling statement due to user request";

/// Waits for something that comes about by itself, if it ever does.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_statement_is_cancelled_and_those_behind_it_end_at_once() {
    let cluster = Cluster::start(&["client_connection_check_interval=0"]);
    let patient = Served::start(&cluster.url(), &[("REQUEST_TIMEOUT", "300")]);
    let hasty = Served::start(&cluster.url(), &[("REQUEST_TIMEOUT", "1")]);
    let client = |served: &Served| {
        let url = format!("{}/org/acme/graphql", served.base);
        Client::new(url, Some(app::token("acme-owner")))
    };
    let counts = (0..20).map(|n| format!("a{n}: totalCount ")).collect::<Vec<_>>().concat();
    let query = format!("{{ organization {{ projects(first: 1) {{ {counts} }} }} }}");
    for (server, cancellations) in [(&hasty, 1), (&patient, 2)] {
        let client = client(server);
        // Prepares the statements.
        client.data(&query).await;
        let admin = held_up(&cluster).await;
        let asking = tokio::spawn({
            let request = client.post().json(&json!({ "query": query }));
            async move { Reply::of(request).await }
        });
        if cancellations == 1 {
            asking.await.unwrap().assert_refused(504, "TIMEOUT");
        } else {
            until("no statement waits", async || cluster.value::<i64>(WAITING).await == 1).await;
            asking.abort();
        }
        until("the statement is not cancelled", async || {
            cluster.told().matches(CANCELLED).count() == cancellations
        })
        .await;
        until("a statement still waits", async || cluster.value::<i64>(WAITING).await == 0).await;
        drop(admin);
        client.data(&query).await;
    }
    // One for each request: those that waited behind it have failed with it.
    assert_eq!(cluster.told().matches(CANCELLED).count(), 2, "{}", cluster.told());
}
