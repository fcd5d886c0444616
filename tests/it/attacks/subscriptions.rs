//! A member with a thousand subscriptions, who tries to delay events of other organizations or to
//! read more than the plan allows.

use serde_json::{Value, json};
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

/// Returns the id of a project of acme.
async fn project(app: &App, name: &str) -> entity::app::ProjectId {
    let sql = format!("SELECT id::text FROM app.projects WHERE name = '{name}'");
    let id: String = app.database.value(&sql).await;
    entity::app::ProjectId(id.parse().unwrap())
}

/// Publishes a change of acme, as a server does after a commit.
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
    let data = client.data("{ organization { entitlements { feature { key } used } } }").await;
    let all = data["organization"]["entitlements"].as_array().unwrap();
    let calls = all.iter().find(|one| one["feature"]["key"] == "api_calls_per_month");
    calls.unwrap()["used"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_organizations_have_a_limited_number_of_subscriptions() {
    let subscription_limits = SubscriptionLimits { by_user: 3, by_organization: 5 };
    let app = App::with(AppSettings { subscription_limits, ..AppSettings::default() }).await;
    let mut owner = Socket::open(&app, "acme-owner").await;
    for id in ["1", "2", "3"] {
        owner.subscribe(id, PROJECTS).await;
    }
    assert_eq!(owner.wait_for_messages().await, Vec::<Value>::new());
    owner.subscribe("4", PROJECTS).await;
    let refused = owner.end().await;
    assert_eq!((&refused["code"], &refused["retryAfter"]), (&json!("RATE_LIMITED"), &json!(30)));
    // Another connection and another operation count for the same user.
    let mut again = Socket::open(&app, "acme-owner").await;
    again.subscribe("1", MEMBERS).await;
    assert_eq!(again.end().await["code"], "RATE_LIMITED");
    let mut viewer = Socket::open(&app, "acme-viewer").await;
    for id in ["1", "2"] {
        viewer.subscribe(id, PROJECTS).await;
    }
    assert_eq!(viewer.wait_for_messages().await, Vec::<Value>::new());
    viewer.subscribe("3", PROJECTS).await;
    assert_eq!(viewer.end().await["code"], "RATE_LIMITED", "the organization has five");
    // Other users have separate limits.
    let mut other = Socket::open(&app, "globex-owner").await;
    other.subscribe("1", PROJECTS).await;
    assert_eq!(other.wait_for_messages().await, Vec::<Value>::new());
    // A subscription that ends frees its slot at once.
    for round in 0..20 {
        owner.complete(if round == 0 { "1" } else { "5" }).await;
        owner.subscribe("5", PROJECTS).await;
        assert_eq!(owner.wait_for_messages().await, Vec::<Value>::new(), "round {round}");
    }
    create(&app.user("acme-owner"), "For all").await;
    for id in ["2", "3", "5"] {
        let event = owner.receive().await;
        assert_eq!(
            event["payload"]["data"]["projectChanged"]["project"]["name"], "For all",
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_read_and_counted_once_for_equal_subscriptions_of_a_user() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let mut sockets = Vec::new();
    for (subject, subscriptions) in [("acme-owner", 20), ("acme-owner", 20), ("acme-viewer", 20)] {
        let mut socket = Socket::open(&app, subject).await;
        for number in 0..subscriptions {
            socket.subscribe(&number.to_string(), PROJECTS).await;
        }
        assert_eq!(socket.wait_for_messages().await, Vec::<Value>::new());
        sockets.push(socket);
    }
    let before = calls(&client).await;
    create(&client, "Once").await;
    for socket in &mut sockets {
        for _ in 0..20 {
            assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Once");
        }
    }
    // The mutation, one event for each user, and this query.
    assert_eq!(calls(&client).await - before, 1 + 2 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_organization_s_event_reads_do_not_delay_another() {
    // Only a lock on a shared table can block the reads of one organization and not the other's.
    if !all_are_shared() {
        return;
    }
    let timeout = Duration::from_mins(5);
    let settings = AppSettings { timeout, max_connections: 8, ..AppSettings::default() };
    let database = Database::create().await;
    // Blocked reads must stay blocked until the test ends, even on a slow machine.
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
    victim.wait_for_messages().await;
    let mut attacker = Socket::open(&app, "acme-owner").await;
    for number in 0..60 {
        // Each subscription is a different operation.
        let alias =
            format!("subscription {{ projectChanged {{ a{number}: id project {{ name }} }} }}");
        attacker.subscribe(&number.to_string(), &alias).await;
    }
    assert_eq!(attacker.wait_for_messages().await, Vec::<Value>::new());
    let lock = app.database.connect_admin().await;
    lock.batch("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    report(&app, &Change::of("project", skates.0)).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                   AND relation = 'app.projects'::regclass";
    while app.database.value::<i64>(waiting).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    // Sixty reads of the attacker are blocked or queued. The victim's read comes after all of them.
    let id = membership(&app, "globex-member").await;
    let change = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{id}\", role: VIEWER }}) {{ member {{ id }} }} }}"
    );
    app.user("globex-owner").data(&change).await;
    assert_eq!(victim.event().await["memberChanged"]["member"]["role"], "VIEWER");
    assert_eq!(attacker.received(), None);
    lock.batch("ROLLBACK").await.unwrap();
    for _ in 0..60 {
        assert_eq!(attacker.event().await["projectChanged"]["project"]["name"], "Rocket skates");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_count_as_calls_and_a_subscription_ends_at_the_limit() {
    let database = Database::create().await;
    database
        .execute(
            "UPDATE billing.plan_features SET limit_value = 5
             WHERE plan = 'pro' AND feature = 'api_calls_per_month'",
        )
        .await;
    let app = App::on(database, AppSettings::default()).await;
    let skates = project(&app, "Rocket skates").await;
    let mut socket = Socket::open(&app, "acme-owner").await;
    // The first call.
    socket.subscribe("1", PROJECTS).await;
    assert_eq!(socket.wait_for_messages().await, Vec::<Value>::new());
    for _ in 0..4 {
        report(&app, &Change::of("project", skates.0)).await;
        assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Rocket skates");
    }
    report(&app, &Change::of("project", skates.0)).await;
    let end = socket.end().await;
    assert_eq!((&end["code"], &end["limit"]), (&json!("PLAN_LIMIT_EXCEEDED"), &json!(5)));
    assert_eq!(end["feature"], "api_calls_per_month");
    assert_eq!(socket.receive().await["type"], "complete");
    let refused = app.user("acme-owner").query("{ organization { name } }").await;
    refused.assert_refused(429, "PLAN_LIMIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_receives_no_event_however_many_others_do() {
    let app = App::start().await;
    let mut sockets = Vec::new();
    for subject in ["acme-owner", "acme-member", "acme-viewer"] {
        let mut socket = Socket::open(&app, subject).await;
        socket.subscribe("1", PROJECTS).await;
        assert_eq!(socket.wait_for_messages().await, Vec::<Value>::new());
        sockets.push(socket);
    }
    // Removed without a notification, as an operator would in psql: the next event detects it.
    let removed = membership(&app, "acme-member").await;
    app.database
        .execute(&format!("DELETE FROM auth.organization_members WHERE id = '{removed}'"))
        .await;
    create(&app.user("acme-owner"), "Secret").await;
    let [owner, member, viewer] = &mut sockets[..] else { panic!() };
    assert_eq!(member.end().await["code"], "NOT_FOUND");
    for socket in [owner, viewer] {
        assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Secret");
    }
}
