//! Billing without a provider: plans, trials and their ends as time passes.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::clock::Clock;

use crate::support::{App, AppSettings, Client, Reply, app};

const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";
const STATE: &str = "{ organization { plan { key } billing { plan { key } status trialEndsAt periodEnd cancelAtPeriodEnd } } }";

/// An app whose clock starts at a given time and moves by days.
struct Calendar {
    app: App,
    days: Arc<AtomicI64>,
}

impl Calendar {
    async fn start(at: &str) -> Self {
        Self::with(at, AppSettings::default()).await
    }

    async fn with(at: &str, settings: AppSettings) -> Self {
        let start: DateTime<Utc> = at.parse().unwrap();
        let days = Arc::new(AtomicI64::new(0));
        let clock = {
            let days = Arc::clone(&days);
            Clock::from_fn(move || start + TimeDelta::days(days.load(Ordering::Relaxed)))
        };
        Self { app: App::with(AppSettings { clock, ..settings }).await, days }
    }

    fn go_to_day(&self, day: i64) {
        self.days.store(day, Ordering::Relaxed);
    }

    fn owner(&self) -> Client {
        let claims = json!({ "sub": "globex-owner", "exp": 4_000_000_000_i64 });
        self.app.client(Some("globex"), Some(app::token_with(&claims)))
    }

    async fn state(&self) -> Value {
        self.owner().data(STATE).await["organization"].clone()
    }
}

async fn with_plan(client: &Client, mutation: &str, plan: &str) -> Reply {
    let query = format!(
        "mutation {{ {mutation}(input: {{ plan: \"{plan}\" }}) {{ billing {{ status }} }} }}"
    );
    client.query(&query).await
}

async fn of_organization(client: &Client, mutation: &str) -> Reply {
    let query = format!(
        "mutation {{ {mutation}(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ periodEnd cancelAtPeriodEnd }} }} }}"
    );
    client.query(&query).await
}

#[tokio::test]
async fn a_trial_is_available_once_and_ends_by_itself() {
    let calendar = Calendar::start("2030-01-01T12:00:00Z").await;
    let owner = calendar.owner();
    with_plan(&owner, "startTrial", "free").await.assert_failed("BAD_USER_INPUT");
    with_plan(&owner, "startTrial", "gold").await.assert_failed("BAD_USER_INPUT");
    with_plan(&owner, "startTrial", "pro").await.data();
    let state = calendar.state().await;
    assert_eq!(state["plan"]["key"], "pro");
    assert_eq!(state["billing"]["status"], "TRIALING");
    assert_eq!(state["billing"]["trialEndsAt"], "2030-01-15T12:00:00+00:00");
    with_plan(&owner, "startTrial", "enterprise").await.assert_failed("CONFLICT");
    calendar.go_to_day(13);
    assert_eq!(calendar.state().await["plan"]["key"], "pro");
    calendar.go_to_day(14);
    assert_eq!(calendar.state().await["plan"]["key"], "free", "no background work is needed");
    with_plan(&owner, "startTrial", "pro").await.assert_failed("CONFLICT");
    with_plan(&owner, "changePlan", "pro").await.data();
    assert_eq!(calendar.state().await["plan"]["key"], "pro");
}

#[tokio::test]
async fn a_canceled_subscription_lasts_until_its_period_ends() {
    let calendar = Calendar::start("2030-01-20T00:00:00Z").await;
    let owner = calendar.owner();
    of_organization(&owner, "cancelSubscription").await.assert_failed("CONFLICT");
    with_plan(&owner, "changePlan", "enterprise").await.data();
    let data = of_organization(&owner, "cancelSubscription").await.data();
    let expected = json!({ "periodEnd": "2030-02-01T00:00:00+00:00", "cancelAtPeriodEnd": true });
    assert_eq!(data["cancelSubscription"]["billing"], expected);
    let data = of_organization(&owner, "resumeSubscription").await.data();
    assert_eq!(data["resumeSubscription"]["billing"]["cancelAtPeriodEnd"], false);
    calendar.go_to_day(30);
    assert_eq!(calendar.state().await["plan"]["key"], "enterprise");
    of_organization(&owner, "cancelSubscription").await.data();
    assert_eq!(calendar.state().await["billing"]["periodEnd"], "2030-03-01T00:00:00+00:00");
    calendar.go_to_day(60);
    assert_eq!(calendar.state().await["plan"]["key"], "free");
    of_organization(&owner, "resumeSubscription").await.assert_failed("CONFLICT");
}

#[tokio::test]
async fn a_failed_payment_has_a_grace_period_of_a_week() {
    let calendar = Calendar::start("2030-01-01T00:00:00Z").await;
    calendar
        .app
        .database
        .execute("UPDATE billing.organization_billing SET plan = 'pro', status = 'past_due', period_start = '2030-01-01'")
        .await;
    for (day, plan) in [(0, "pro"), (6, "pro"), (7, "free")] {
        calendar.go_to_day(day);
        assert_eq!(calendar.state().await["plan"]["key"], plan, "day {day}");
    }
}

#[tokio::test]
async fn a_smaller_plan_deletes_nothing_and_allows_no_more() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    with_plan(&owner, "changePlan", "free").await.data();
    let data = owner
        .data("{ organization { projects { totalCount } entitlements { feature { key } limit used remaining overLimit } } }")
        .await;
    assert_eq!(data["organization"]["projects"]["totalCount"], 4);
    assert_eq!(
        data["organization"]["entitlements"][0],
        json!({ "feature": { "key": "projects" }, "limit": 3, "used": 4, "remaining": 0, "overLimit": true })
    );
    let reply =
        owner.query("mutation { createProject(input: { name: \"x\" }) { project { id } } }").await;
    reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    // Choosing the same plan again changes nothing and adds no entry.
    with_plan(&owner, "changePlan", "free").await.data();
    let logs = owner
        .data("{ organization { auditLogs(filter: { resourceType: \"billing\" }) { nodes { action metadata actorName } } } }")
        .await;
    assert_eq!(
        logs["organization"]["auditLogs"]["nodes"],
        json!([{ "action": "billing.plan_changed", "metadata": { "old_plan": "pro", "plan": "free" }, "actorName": "Olivia" }])
    );
}

#[tokio::test]
async fn another_organization_s_id_cancels_nothing() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    of_organization(&app.user("acme-owner"), "cancelSubscription").await.assert_failed("NOT_FOUND");
    of_organization(&app.user("globex-admin"), "resumeSubscription")
        .await
        .assert_failed("FORBIDDEN");
    with_plan(&app.user("acme-admin"), "changePlan", "free").await.assert_failed("FORBIDDEN");
    assert_eq!(app.database.fingerprint().await, before);
}

/// Creates an organization whose owner is a new user, and returns a client in it.
async fn found(calendar: &Calendar, slug: &str) -> Client {
    let token = || {
        let claims = json!({ "sub": "founder", "exp": 4_000_000_000_i64 });
        Some(app::token_with(&claims))
    };
    let create = format!(
        "mutation {{ createOrganization(input: {{ name: \"Initech\", slug: \"{slug}\" }}) {{ organization {{ slug }} }} }}"
    );
    calendar.app.client(None, token()).query(&create).await.data();
    calendar.app.client(Some(slug), token())
}

#[tokio::test]
async fn a_new_organization_starts_with_a_trial_of_the_trial_plan() {
    let mut settings = AppSettings::default();
    settings.areas.billing.trial_plan = Some("pro".to_owned());
    settings.areas.billing.trial_term = TimeDelta::days(30);
    let calendar = Calendar::with("2030-01-01T12:00:00Z", settings).await;
    let owner = found(&calendar, "initech").await;
    let state = owner.data(STATE).await["organization"].clone();
    let expected = json!({
        "plan": { "key": "pro" }, "status": "TRIALING", "trialEndsAt": "2030-01-31T12:00:00+00:00",
        "periodEnd": "2030-01-31T12:00:00+00:00", "cancelAtPeriodEnd": false,
    });
    assert_eq!((&state["plan"]["key"], &state["billing"]), (&json!("pro"), &expected));
    let logs = "{ organization { auditLogs { nodes { action metadata } } } }";
    let logs = owner.data(logs).await["organization"]["auditLogs"]["nodes"].clone();
    let started =
        logs.as_array().unwrap().iter().find(|log| log["action"] == "billing.trial_started");
    assert_eq!(started.unwrap()["metadata"]["plan"], "pro");
    with_plan(&owner, "startTrial", "enterprise").await.assert_failed("CONFLICT");
    calendar.go_to_day(29);
    assert_eq!(owner.data(STATE).await["organization"]["plan"]["key"], "pro");
    calendar.go_to_day(30);
    assert_eq!(owner.data(STATE).await["organization"]["plan"]["key"], "free");
    with_plan(&owner, "changePlan", "pro").await.data();
    assert_eq!(owner.data(STATE).await["organization"]["billing"]["status"], "ACTIVE");
}

#[tokio::test]
async fn a_trial_plan_that_does_not_exist_prevents_no_sign_up() {
    for trial_plan in [None, Some("gold".to_owned()), Some("free".to_owned())] {
        let mut settings = AppSettings::default();
        settings.areas.billing.trial_plan = trial_plan;
        let calendar = Calendar::with("2030-01-01T12:00:00Z", settings).await;
        let owner = found(&calendar, "initech").await;
        let state = owner.data(STATE).await["organization"].clone();
        assert_eq!(
            (&state["plan"]["key"], &state["billing"]["status"]),
            (&json!("free"), &json!("ACTIVE"))
        );
        assert_eq!(state["billing"]["trialEndsAt"], json!(null));
    }
}
