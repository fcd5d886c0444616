//! A member subscribes a thousand times, to make the events of other organizations late, or to read
//! what the plan does not pay for.

use serde_json::{Value, json};
use sqlx::Executor;
use tenantry::{admission::SubscriptionLimits, tenancy::Change};
use tokio::time::{Duration, sleep};

use crate::support::{
    App, AppSettings, Client,
    database::Database,
    placement::{ACME, all_are_shared},
    websocket::Socket,
};

const PROJECTS: &str = "subscription { projectChanged { id project { name } } }";
const MEMBERS: &str = "subscription { memberChanged { member { role } } }";

/// A project of Acme, by its name.
async fn project(app: &App, name: &str) -> entity::ProjectId {
    let sql = format!("SELECT id::text FROM app.projects WHERE name = '{name}'");
    let id: String = app.database.value(&sql).await;
    entity::ProjectId(id.parse().unwrap())
}

/// Reports a change of Acme as a server does after a commit.
async fn report(app: &App, change: &Change) {
    let notice = json!({ "organization": ACME, "changes": [change] });
    app.database.execute(&format!("SELECT pg_notify('tenantry', '{notice}')")).await;
}

async fn create(client: &Client, name: &str) -> Value {
    let input = format!("input: {{ name: \"{name}\" }}");
    let query = format!("mutation {{ createProject({input}) {{ project {{ id }} }} }}");
    client.data(&query).await["createProject"]["project"]["id"].clone()
}

async fn membership(app: &App, user: &str) -> String {
    let sql = format!(
        "SELECT m.id::text FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id
         WHERE u.email = '{user}@example.com'"
    );
    app.database.value(&sql).await
}

async fn calls(client: &Client) -> i64 {
    let data = client.data("{ organization { entitlements { feature used } } }").await;
    let all = data["organization"]["entitlements"].as_array().unwrap();
    let calls = all.iter().find(|one| one["feature"] == "API_CALLS_PER_MONTH");
    calls.unwrap()["used"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_and_an_organization_have_a_limited_number_of_subscriptions() {
    let subscription_limits = SubscriptionLimits { by_user: 3, by_organization: 5 };
    let app = App::with(AppSettings { subscription_limits, ..AppSettings::default() }).await;
    let mut owner = Socket::open(&app, "acme-owner").await;
    for id in ["1", "2", "3"] {
        owner.subscribe(id, PROJECTS).await;
    }
    assert_eq!(owner.settle().await, Vec::<Value>::new());
    owner.subscribe("4", PROJECTS).await;
    let refused = owner.end().await;
    assert_eq!((&refused["code"], &refused["retryAfter"]), (&json!("RATE_LIMITED"), &json!(30)));
    // Over another connection, and for another operation, they are the same user.
    let mut again = Socket::open(&app, "acme-owner").await;
    again.subscribe("1", MEMBERS).await;
    assert_eq!(again.end().await["code"], "RATE_LIMITED");
    let mut viewer = Socket::open(&app, "acme-viewer").await;
    for id in ["1", "2"] {
        viewer.subscribe(id, PROJECTS).await;
    }
    assert_eq!(viewer.settle().await, Vec::<Value>::new());
    viewer.subscribe("3", PROJECTS).await;
    assert_eq!(viewer.end().await["code"], "RATE_LIMITED", "the organization has five");
    // Others have their own number.
    let mut other = Socket::open(&app, "globex-owner").await;
    other.subscribe("1", PROJECTS).await;
    assert_eq!(other.settle().await, Vec::<Value>::new());
    // One that ends makes room for another, at once.
    for round in 0..20 {
        owner.complete(if round == 0 { "1" } else { "5" }).await;
        owner.subscribe("5", PROJECTS).await;
        assert_eq!(owner.settle().await, Vec::<Value>::new(), "round {round}");
    }
    create(&app.person("acme-owner"), "For all").await;
    for id in ["2", "3", "5"] {
        let event = owner.receive().await;
        assert_eq!(
            event["payload"]["data"]["projectChanged"]["project"]["name"], "For all",
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_read_and_counted_once_for_all_subscriptions_of_a_user_to_one_operation() {
    let app = App::start().await;
    let client = app.person("acme-owner");
    let mut sockets = Vec::new();
    for (subject, subscriptions) in [("acme-owner", 20), ("acme-owner", 20), ("acme-viewer", 20)] {
        let mut socket = Socket::open(&app, subject).await;
        for number in 0..subscriptions {
            socket.subscribe(&number.to_string(), PROJECTS).await;
        }
        assert_eq!(socket.settle().await, Vec::<Value>::new());
        sockets.push(socket);
    }
    let before = calls(&client).await;
    create(&client, "Once").await;
    for socket in &mut sockets {
        for _ in 0..20 {
            assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Once");
        }
    }
    // The mutation, an event for each user, and this query.
    assert_eq!(calls(&client).await - before, 1 + 2 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_organization_does_not_wait_for_a_queue_of_reads() {
    // Whose reads hang must be told from the others by a lock on a table.
    if !all_are_shared() {
        return;
    }
    let timeout = Duration::from_mins(5);
    let settings = AppSettings { timeout, max_connections: 8, ..AppSettings::default() };
    let database = Database::create().await;
    // What hangs does so until the test is over, on the slowest machine too.
    for limit in ["lock_timeout", "statement_timeout"] {
        let name = &database.name;
        database
            .execute(&format!("ALTER ROLE tenantry_app IN DATABASE \"{name}\" SET {limit} = 0"))
            .await;
    }
    let app = App::on(database, settings).await;
    let skates = project(&app, "Rocket skates").await;
    let mut victim = Socket::open(&app, "globex-viewer").await;
    victim.subscribe("1", MEMBERS).await;
    victim.settle().await;
    let mut attacker = Socket::open(&app, "acme-owner").await;
    for number in 0..60 {
        // No two of them are the same operation.
        let alias =
            format!("subscription {{ projectChanged {{ a{number}: id project {{ name }} }} }}");
        attacker.subscribe(&number.to_string(), &alias).await;
    }
    assert_eq!(attacker.settle().await, Vec::<Value>::new());
    let mut lock = app.database.connect_admin().await;
    lock.execute("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    report(&app, &Change::Project(skates)).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                   AND relation = 'app.projects'::regclass";
    while app.database.value::<i64>(waiting).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    // Sixty reads of the attacker hang or wait for those that hang; the victim's is behind all of
    // them.
    let id = membership(&app, "globex-member").await;
    let change = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{id}\", role: VIEWER }}) {{ member {{ id }} }} }}"
    );
    app.person("globex-owner").data(&change).await;
    assert_eq!(victim.event().await["memberChanged"]["member"]["role"], "VIEWER");
    assert_eq!(attacker.received(), None);
    lock.execute("ROLLBACK").await.unwrap();
    for _ in 0..60 {
        assert_eq!(attacker.event().await["projectChanged"]["project"]["name"], "Rocket skates");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_count_as_calls_and_the_one_too_many_ends_the_subscription() {
    let app = App::start().await;
    app.database
        .execute(
            "UPDATE billing.plan_features SET limit_value = 5
             WHERE plan = 'pro' AND feature = 'api_calls_per_month'",
        )
        .await;
    let skates = project(&app, "Rocket skates").await;
    let mut socket = Socket::open(&app, "acme-owner").await;
    // The first call.
    socket.subscribe("1", PROJECTS).await;
    assert_eq!(socket.settle().await, Vec::<Value>::new());
    for _ in 0..4 {
        report(&app, &Change::Project(skates)).await;
        assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Rocket skates");
    }
    report(&app, &Change::Project(skates)).await;
    let end = socket.end().await;
    assert_eq!((&end["code"], &end["limit"]), (&json!("PLAN_LIMIT_EXCEEDED"), &json!(5)));
    assert_eq!(end["feature"], "API_CALLS_PER_MONTH");
    assert_eq!(socket.receive().await["type"], "complete");
    let refused = app.person("acme-owner").query("{ organization { name } }").await;
    refused.assert_refused(429, "PLAN_LIMIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_a_member_who_was_removed_however_many_others_receive_it() {
    let app = App::start().await;
    let mut sockets = Vec::new();
    for subject in ["acme-owner", "acme-member", "acme-viewer"] {
        let mut socket = Socket::open(&app, subject).await;
        socket.subscribe("1", PROJECTS).await;
        assert_eq!(socket.settle().await, Vec::<Value>::new());
        sockets.push(socket);
    }
    // Without a word to the servers, as by an operator in psql: the next event is what finds out.
    let seat = membership(&app, "acme-member").await;
    app.database
        .execute(&format!("DELETE FROM auth.organization_members WHERE id = '{seat}'"))
        .await;
    create(&app.person("acme-owner"), "Secret").await;
    let [owner, member, viewer] = &mut sockets[..] else { panic!() };
    assert_eq!(member.end().await["code"], "NOT_FOUND");
    for socket in [owner, viewer] {
        assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Secret");
    }
}
