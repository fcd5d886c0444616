//! The cost of requests, counted instead of timed: statements, round trips, allocations and query
//! plans.

#[path = "../../benches/load/relay.rs"]
pub mod relay;
#[path = "../../benches/load/requests.rs"]
mod requests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use pg::Client;
use serde_json::{Value, json};
use tenantry::{
    admission::Source, auth::Caller, graphql::document::GraphqlRequest, request::RequestContext,
    tenancy::Destination,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, prelude::*};
use uuid::Uuid;

use crate::{
    isolation::insertion,
    support::{
        App, AppSettings, HANG,
        app::{token, token_with},
        database::{Database, tenant_tables},
        resources::further_resources,
    },
};
use relay::Relay;
use requests::{CREATE_PROJECT, DASHBOARD, PROJECT, PROJECTS};

/// The rows of the benchmark.
const SEED: &str = include_str!("../../benches/load/seed.sql");

/// Rows in the tables that the benchmark leaves empty.
const MORE: &str = "
    INSERT INTO auth.invitations (organization_id, email, role, token_hash, invited_by, expires_at)
        SELECT o.id, o.slug || n || '@example.com', 'member', sha256(convert_to(o.slug || n, 'UTF8')),
               (SELECT m.user_id FROM auth.organization_members m WHERE m.organization_id = o.id AND m.role = 'owner' LIMIT 1),
               now() + interval '1 day'
        FROM app.organizations o, generate_series(1, 3) n;
    INSERT INTO billing.usage (organization_id, feature, period_start, used)
        SELECT o.id, 'api_calls_per_month', date_trunc('month', now(), 'UTC') - n * interval '1 month', 7
        FROM app.organizations o, generate_series(1, 3) n;
    INSERT INTO billing.organization_features (organization_id, feature)
        SELECT o.id, f.feature FROM app.organizations o, billing.features f;
    INSERT INTO billing.usage_keys (organization_id, feature, key, amount)
        SELECT o.id, 'exports', n::text, 1 FROM app.organizations o, generate_series(1, 3) n;
    INSERT INTO app.outbox (organization_id, kind, due_at, processed_at)
        SELECT o.id, 'mail', now(), now() FROM app.organizations o, generate_series(1, 3) n;";

/// A project of the demo.
const A_PROJECT: &str = "SELECT min(p.id::text) FROM app.projects p
    JOIN app.organizations o ON o.id = p.organization_id WHERE o.slug = 'acme'";

fn new_project() -> Value {
    json!({ "input": { "name": "Created under load", "description": "One of many." } })
}

// Runs on one thread: everything that a request sends before it waits is then sent at once.
#[tokio::test]
async fn the_workloads_take_a_fixed_number_of_statements_and_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let project: String = database.value(A_PROJECT).await;
    let relay = Relay::between(folder.path(), &database.socket()).unwrap();
    let socket = Some(folder.path().to_owned());
    let app =
        App::on(database, AppSettings { socket, max_connections: 1, ..AppSettings::default() })
            .await;
    let workloads = [
        // Opening; plan, projects, members, audit log; users; the end.
        (DASHBOARD, json!({}), 8, 3),
        // Opening; project; the end.
        (PROJECT, json!({ "id": project }), 4, 2),
        (PROJECTS, json!({}), 4, 2),
        // Opening; lock, role, count; limit; row, audit log; the end, which is two statements.
        (CREATE_PROJECT, new_project(), 10, 5),
    ];
    for (query, variables, statements, waits) in workloads {
        let mut seen = relay::Traffic::default();
        // The first request prepares the statements.
        for _ in 0..3 {
            relay.take();
            app.user("acme-owner").query_with(query, variables.clone()).await.data();
            seen = traffic(&relay, statements).await;
        }
        assert_eq!((seen.statements, seen.waits), (statements, waits), "{query}");
    }
}

#[tokio::test]
async fn the_first_query_of_a_caller_opens_one_session() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let relay = Relay::between(folder.path(), &database.socket()).unwrap();
    let socket = Some(folder.path().to_owned());
    let settings = AppSettings { socket, max_connections: 1, ..AppSettings::default() };
    let app = App::on(database, settings).await;
    // Prepares the statements.
    for _ in 0..2 {
        app.user("acme-owner").data(PROJECTS).await;
    }
    traffic(&relay, 4).await;
    // Neither the caller is known nor were calls of the organization leased.
    // Without a time or a name, which would have to be recorded first.
    let token = token_with(&json!({ "sub": "globex-owner", "exp": 4_000_000_000_u64 }));
    app.client(Some("globex"), Some(token)).data(PROJECTS).await;
    let seen = traffic(&relay, 4).await;
    assert_eq!((seen.statements, seen.waits), (4, 3), "opening; projects; the end");
}

/// Returns the traffic of a request that has been answered, once at least this many statements were
/// counted. The last of them may follow the response, and a pause catches any that are too many.
pub async fn traffic(relay: &Relay, statements: u32) -> relay::Traffic {
    let (started, mut seen) = (Instant::now(), relay.take());
    let mut enough = false;
    while !enough && started.elapsed() < HANG {
        enough = seen.statements >= statements;
        tokio::time::sleep(Duration::from_millis(if enough { 100 } else { 10 })).await;
        let more = relay.take();
        seen.statements += more.statements;
        seen.waits += more.waits;
    }
    seen
}

#[test]
fn the_allocations_of_a_request_are_bounded() {
    // Runs on one thread, whose allocations are counted, including those of the connection.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(App::start());
    let unlimited = "UPDATE billing.organization_billing SET plan = 'enterprise'";
    runtime.block_on(app.database.execute(unlimited));
    let project: String = runtime.block_on(app.database.value(A_PROJECT));
    let workloads = [
        (DASHBOARD, json!({}), 1_120),
        (PROJECT, json!({ "id": project }), 240),
        (PROJECTS, json!({}), 220),
        (CREATE_PROJECT, new_project(), 600),
    ];
    for (query, variables, most) in workloads {
        let ask = || {
            let caller = Caller {
                expires_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
                subject: "acme-owner".to_owned(),
                organization: Some("acme".to_owned()),
                ..Caller::default()
            };
            let request = GraphqlRequest {
                query: query.to_owned(),
                operation_name: None,
                variables: variables.as_object().unwrap().clone(),
            };
            let destination = Destination { slug: None, client_ip: None };
            let service = Arc::clone(&app.service);
            runtime.block_on(async {
                let prepared = service.prepare(request, Source::default()).await.unwrap();
                let call = RequestContext {
                    caller: Arc::new(caller),
                    destination,
                    request_id: Uuid::nil(),
                    idempotency_key: None,
                    freshness: None,
                    budget: service.budget,
                };
                let answer = service.execute(prepared, call).await;
                assert!(answer.response.errors.is_empty(), "{answer:?}");
                serde_json::to_string(&answer.response).unwrap()
            })
        };
        // These requests parse the document, prepare the statements and lease calls.
        for _ in 0..3 {
            ask();
        }
        // The minimum counts, because background work of the server falls into some of the
        // requests.
        let counted = (0..50).map(|_| {
            allocation_counter::measure(|| {
                ask();
            })
            .count_total
        });
        let fewest = counted.min().unwrap();
        println!("{fewest} allocations, {most} are allowed: {query}");
        assert!(fewest <= most, "{fewest} allocations, {most} are allowed: {query}");
    }
}

/// Collects the statements that a server runs.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<BTreeSet<String>>>);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Sql<'set>(&'set Statements);
        impl tracing::field::Visit for Sql<'_> {
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}

            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                if field.name() == "sql" {
                    self.0.0.lock().unwrap().insert(value.to_owned());
                }
            }
        }
        event.record(&mut Sql(self));
    }
}

/// The daily requests of an organization's members.
const DAY: [&str; 10] = [
    DASHBOARD,
    PROJECTS,
    "{ organization { projects(last: 5) { totalCount pageInfo { startCursor } nodes { id } }
                      members(first: 3) { totalCount nodes { invitedBy { name } } }
                      invitations { totalCount nodes { email } } billing { status } entitlements { used } } }",
    "{ organization { members(first: 2) { nodes { projects(first: 2) { totalCount nodes { name } } } }
                      projects(first: 2) { nodes { auditLogs(first: 2) { nodes { action } } } } } }",
    "{ organization { auditLogs(filter: { action: \"project.updated\" }) { nodes { id } } } }",
    "{ organization { auditLogs(filter: { since: \"2026-03-01T00:00:00Z\", until: \"2026-03-02T00:00:00Z\" }) { nodes { id } } } }",
    "{ organization { entitlement(feature: \"projects\") { used } usage(feature: \"exports\") { used } } }",
    "mutation { updateOrganization(input: { name: \"Another name\" }) { organization { name } } }",
    "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { invitation { id } } }",
    "{ viewer { id name memberships { role } } plans { name features { limit } } }",
];

#[tokio::test]
async fn every_statement_uses_an_index_that_leads_with_the_organization() {
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    admin.batch(&SEED.replace(":organizations", "10000")).await.unwrap();
    admin.batch(MORE).await.unwrap();
    let further = further_resources();
    let is_further = |name: &str| further.iter().any(|resource| resource.table == name);
    for table in tenant_tables().iter().filter(|table| is_further(table.base_name())) {
        let rows = insertion(&admin, &table.name, "o.id").await + " FROM app.organizations o";
        admin.batch(&(rows + " WHERE o.slug LIKE 'org-%'")).await.unwrap();
    }
    admin.batch("VACUUM ANALYZE").await.unwrap();
    let statements = Statements::default();
    let app = App::on(database, AppSettings::default()).await;
    {
        // The subscriber is for this thread only, on which the whole test runs.
        let _another = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::registry().with(statements.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        tracing::callsite::rebuild_interest_cache();
        let owner = app.client(Some("org-7"), Some(token("user-7-1")));
        for text in DAY {
            owner.data(text).await;
        }
        let created = owner.query_with(CREATE_PROJECT, new_project()).await.data();
        let id = &created["createProject"]["project"]["id"];
        let page =
            owner.data("{ organization { projects(first: 2) { pageInfo { endCursor } } } }").await;
        let cursor = &page["organization"]["projects"]["pageInfo"]["endCursor"];
        for text in [
            format!(
                "{{ organization {{ project(id: {id}) {{ name }} projects(first: 2, after: {cursor}) {{ nodes {{ id }} }} }} node(id: {id}) {{ id }} }}"
            ),
            format!(
                "mutation {{ updateProject(input: {{ id: {id}, name: \"b\" }}) {{ project {{ name }} }} }}"
            ),
            format!("mutation {{ deleteProject(input: {{ id: {id} }}) {{ project {{ name }} }} }}"),
        ] {
            owner.data(&text).await;
        }
    }
    let statements = statements.0.lock().unwrap().clone();
    assert!(statements.len() > 30, "{statements:#?}");
    // A user has few memberships, and an address has one user.
    let leading: BTreeSet<String> = admin
        .query(
            "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE c.relnamespace::regnamespace::text IN ('app', 'auth', 'billing', 'audit')
           AND (a.attname IN ('organization_id', 'user_id') OR c.relname IN ('organizations', 'users') AND i.indisunique)",
            &[],
        )
        .await
    .unwrap()
    .into_iter()
    .map(|name: String| name.rsplit('.').next().unwrap().to_owned())
    .collect();
    let mut app_role = app.database.connect_app().await;
    let mut system_role = app.database.connect_system().await;
    let (mut scans, mut scans_of_children) = (0, 0);
    for sql in &statements {
        let plan = match plan(&mut app_role, sql).await {
            Some(plan) => plan,
            None => plan(&mut system_role, sql).await.unwrap(),
        };
        for scan in scans_of(&plan) {
            let table = scan["Relation Name"].as_str().unwrap_or_default();
            if ["features", "plans", "plan_features", "plan_prices"].contains(&table) {
                continue;
            }
            scans += 1;
            let index = scan["Index Name"].as_str().unwrap_or_default();
            assert!(
                leading.contains(index) && !scan["Index Cond"].is_null(),
                "{table} is read by {} {index}: {sql}\n{plan:#}",
                scan["Node Type"]
            );
            // The page of one parent, instead of a page of the organization that is filtered by it.
            if sql.contains("LATERAL") {
                scans_of_children += 1;
                assert!(
                    scan["Index Cond"].as_str().unwrap().contains("parent.parent"),
                    "{table} is read for each parent by {index}: {sql}\n{plan:#}"
                );
            }
        }
    }
    assert!(scans > 30, "{scans} scans");
    assert!(scans_of_children >= 2, "{scans_of_children} scans of children");
}

/// Returns the generic plan, or `None` when the role may not run the statement.
async fn plan(connection: &mut Client, sql: &str) -> Option<Value> {
    let parameters = (1..100).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    let arguments = if parameters == 0 { String::new() } else { format!("({nulls})") };
    connection.batch(&format!("PREPARE the_statement AS {sql}")).await.unwrap();
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE the_statement{arguments}");
    let explained = connection.query_one(&explain, &[]).await;
    connection.batch("DEALLOCATE the_statement").await.unwrap();
    match explained {
        Ok(plan) => Some(plan),
        Err(error) => {
            assert_eq!(error.code(), Some("42501"), "{sql}: {error}");
            None
        }
    }
}

/// Returns every node of a plan that reads a table.
fn scans_of(plan: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut open = vec![plan];
    while let Some(node) = open.pop() {
        match node {
            Value::Array(nodes) => open.extend(nodes),
            Value::Object(fields) => {
                let kind = node["Node Type"].as_str().unwrap_or_default();
                // A bitmap index scan names only the index, and its bitmap heap scan only the
                // table. A subquery is scanned where its own scans end.
                let other = ["Bitmap Heap Scan", "Function Scan", "Subquery Scan"];
                if kind.ends_with("Scan") && !other.contains(&kind) {
                    found.push(node);
                }
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    found
}
