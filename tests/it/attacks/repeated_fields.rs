//! Repeated fields: a document, a batch or a list of ids that runs a statement for each repetition,
//! and what such requests leave running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    performance::relay::Relay,
    support::{
        App, AppSettings, Client, HANG, Reply, app, cluster::Cluster, database::Database,
        server_process::ServerProcess,
    },
};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";

/// Returns how many statements the server has counted for its responses so far.
async fn statements(app: &App) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", app.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let mut lines = metrics.lines();
    let sum = lines.find_map(|line| line.strip_prefix("tenantry_request_statements_sum "));
    sum.expect("the server counts statements").parse().unwrap()
}

/// Returns the response to a document and the number of statements that it took.
async fn cost(app: &App, client: &Client, query: &str) -> (Value, f64) {
    let before = statements(app).await;
    let data = client.data(query).await;
    (data, statements(app).await - before)
}

/// Documents that repeat the part between braces.
const REPEATED: [(&str, &str, &str); 9] = [
    ("{ organization { projects(first: 1) { ", "totalCount ", " } } }"),
    ("{ viewer { ", "memberships { slug } ", " } }"),
    ("{ ", "plans { key } ", " }"),
    ("{ organization { ", "entitlements { limit } ", " } }"),
    ("{ organization { ", "billing { status } plan { name } ", " } }"),
    ("{ organization { ", "auditLogs(first: 1) { nodes { id } } ", " } }"),
    ("{ organization { ", "...f ", " } } fragment f on Organization { members { totalCount } }"),
    ("mutation { query { organization { projects(first: 1) { ", "totalCount ", " } } } }"),
    (
        "{ node(id: \"00000000-0000-4000-8000-00000000000a\") { ",
        "... on Node { ... on Organization { invitations { totalCount } } } ",
        " } }",
    ),
];

/// Lexical tokens of a document without comments and escapes (GraphQL specification, section 2.1).
fn tokens(mut document: &str) -> usize {
    let mut tokens = 0;
    while let Some(first) = document.trim_start().chars().next() {
        document = document.trim_start();
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = match first {
            '"' => 2 + document[1..].find('"').unwrap(),
            '.' => 3,
            _ => document.find(|letter| !is_part(letter)).unwrap_or(document.len()).max(1),
        };
        document = &document[length..];
        tokens += 1;
    }
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_field_runs_once() {
    let limit = AppSettings::default().limits.tokens;
    let app = App::start().await;
    let owner = app.user("acme-owner");
    owner.data("{ viewer { id } organization { name } }").await;
    for (before, repeated, after) in REPEATED {
        let once = cost(&app, &owner, &format!("{before}{repeated}{after}")).await;
        // As often as the limit of tokens allows.
        let times = (limit - tokens(before) - tokens(after)) / tokens(repeated);
        let query = |times: usize| format!("{before}{}{after}", repeated.repeat(times));
        assert_eq!(cost(&app, &owner, &query(times)).await, once, "{repeated} {times} times");
        let sent = statements(&app).await;
        let refused = owner.query(&query(times + 1)).await;
        refused.assert_refused(400, "QUERY_TOO_COMPLEX");
        let message = refused.body["errors"][0]["message"].as_str().unwrap();
        assert_eq!(message, format!("The document has more than {limit} tokens."));
        assert!((statements(&app).await - sent).abs() < f64::EPSILON, "{repeated}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_types_do_not_make_a_repeated_field_run_again() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
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
        // The document is cached. With other values, a condition still decides.
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
    let owner = app.user("acme-owner");
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
    // With other arguments it is another field, so the document is rejected.
    let other = "mutation { createProject(input: { name: \"Once\" }) { project { id } }
                     createProject(input: { name: \"Twice\" }) { project { id } } }";
    owner.query(other).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(app.database.value::<i64>(count).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_sends_statements_counts_against_the_complexity() {
    let mut settings = AppSettings::default();
    settings.limits.complexity = 10;
    let app = App::with(settings).await;
    let owner = app.user("acme-owner");
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

/// Selects the same organization repeatedly, with statements each time.
fn repeat_organization(times: usize) -> String {
    let ids = vec![format!("\"{ACME}\""); times].join(" ");
    format!(
        "nodes(ids: [{ids}]) {{ ... on Organization {{ projects(first: 1) {{ totalCount }} }} }}"
    )
}

#[tokio::test]
async fn an_operation_over_the_statement_limit_fails_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let relay = Relay::between(folder.path(), &database.socket()).unwrap();
    let mut settings = AppSettings { max_connections: 1, ..AppSettings::default() };
    settings.socket = Some(folder.path().to_owned());
    settings.cost.statements = 40;
    let app = App::on(database, settings).await;
    let owner = app.user("acme-owner");
    owner.data("{ organization { projects(first: 1) { totalCount } } }").await;
    relay.take();
    let query = repeat_organization(90);
    owner.query(&format!("{{ {query} }}")).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    let before = app.database.fingerprint().await;
    let create = "createProject(input: { name: \"Never\" }) { project { id } }";
    let mutation = format!("mutation {{ {create} query {{ {query} }} }}");
    owner.query(&mutation).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    assert_eq!(app.database.fingerprint().await, before);
    // The statements that begin and end the two transactions, and those that count calls, come on
    // top.
    let sent = relay.take().statements;
    assert!(sent < 2 * 40 + 20, "{sent} statements");
    owner.data(&format!("{{ {} }}", repeat_organization(10))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_of_a_batch_share_one_statement_limit() {
    let mut settings = AppSettings::default();
    settings.cost.statements = 40;
    let app = App::with(settings).await;
    let owner = app.user("acme-owner");
    let one = json!({ "query": format!("{{ {} }}", repeat_organization(10)) });
    let before = app.database.fingerprint().await;
    let create = json!({ "query": "mutation { createProject(input: { name: \"Late\" }) { project { id } } }" });
    let mut batch = vec![one; 9];
    batch.push(create);
    let reply = owner.send(&Value::Array(batch)).await;
    let responses = reply.body.as_array().unwrap();
    assert_eq!(responses.len(), 10, "{reply:?}");
    let codes: Vec<_> = responses
        .iter()
        .map(|response| response["errors"][0]["extensions"]["code"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(codes[0], "none", "{reply:?}");
    assert!(codes[2..].iter().all(|code| *code == "QUERY_TOO_COMPLEX"), "{codes:?}");
    assert!(responses[9].get("data").is_none(), "{reply:?}");
    assert_eq!(app.database.fingerprint().await, before);
    // The next request has a new budget.
    owner.data("mutation { createProject(input: { name: \"Late\" }) { project { id } } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_a_batch_that_fail_are_not_free() {
    let mut settings = AppSettings::default();
    settings.cost.statements = 40;
    let app = App::with(settings).await;
    // As if another change were in the way of each attempt.
    app.database
        .execute(
            "CREATE FUNCTION app.in_the_way() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'in the way' USING ERRCODE = 'serialization_failure'; END $$;
             CREATE TRIGGER in_the_way BEFORE INSERT ON app.projects
                 FOR EACH ROW EXECUTE FUNCTION app.in_the_way()",
        )
        .await;
    let owner = app.user("acme-owner");
    owner.data("{ viewer { id } }").await;
    let create = "mutation { createProject(input: { name: \"Never\" }) { project { id } } }";
    let mut batch = vec![json!({ "query": create }); 5];
    batch.push(json!({ "query": "{ viewer { id } }" }));
    let reply = owner.send(&Value::Array(batch)).await;
    let answers = reply.body.as_array().unwrap();
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!((codes[0], codes[5]), ("UNAVAILABLE", "QUERY_TOO_COMPLEX"), "{codes:?}");
}

/// Locks the table of projects until the connection is dropped.
async fn lock_projects(cluster: &Cluster) -> pg::Client {
    let admin = cluster.connect_admin().await;
    admin.batch("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    admin
}

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
const CANCELLED: &str = "canceling statement due to user request";

/// Waits until a condition holds.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < HANG, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_statement_is_cancelled_and_those_queued_behind_it_end_at_once() {
    let cluster = Cluster::start(&["client_connection_check_interval=0"]);
    let patient = ServerProcess::start(&cluster.url(), &[("REQUEST_TIMEOUT", "300")]);
    let early = ServerProcess::start(&cluster.url(), &[("REQUEST_TIMEOUT", "1")]);
    let client = |served: &ServerProcess| {
        let url = format!("{}/org/acme/graphql", served.base);
        Client::new(url, Some(app::token("acme-owner")))
    };
    let counts = (0..20).map(|n| format!("a{n}: totalCount ")).collect::<Vec<_>>().concat();
    let query = format!("{{ organization {{ projects(first: 1) {{ {counts} }} }} }}");
    for (server, cancellations) in [(&early, 1), (&patient, 2)] {
        let client = client(server);
        // Prepares the statements.
        client.data(&query).await;
        let admin = lock_projects(&cluster).await;
        let asking = tokio::spawn({
            let request = client.post().json(&json!({ "query": query }));
            async move { Reply::of(request).await }
        });
        if cancellations == 1 {
            asking.await.unwrap().assert_refused(504, "TIMEOUT");
        } else {
            wait_until("no statement waits", async || cluster.value::<i64>(WAITING).await == 1)
                .await;
            asking.abort();
        }
        wait_until("the statement is not cancelled", async || {
            cluster.log().matches(CANCELLED).count() == cancellations
        })
        .await;
        wait_until("a statement still waits", async || cluster.value::<i64>(WAITING).await == 0)
            .await;
        drop(admin);
        client.data(&query).await;
    }
    // One cancelled statement for each request: those queued behind it failed with it.
    assert_eq!(cluster.log().matches(CANCELLED).count(), 2, "{}", cluster.log());
}
