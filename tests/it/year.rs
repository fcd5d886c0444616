//! A year in the life of a tenant, told afterwards by its audit log.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::clock::Clock;

use crate::support::{
    App, AppSettings, Client, app,
    stripe::{FakeStripe, WEBHOOK_SECRET, signature},
};

const START: &str = "2030-01-01T00:00:00Z";
const STATE: &str = "{ organization { plan { plan } entitlements { feature limit used overLimit }
    billing { plan status cancelAtPeriodEnd } } }";

struct Year {
    app: App,
    day: Arc<AtomicI64>,
    events: AtomicI64,
    organization: String,
}

impl Year {
    async fn begin() -> Self {
        let day = Arc::new(AtomicI64::new(0));
        let clock = {
            let day = Arc::clone(&day);
            Clock::from_fn(move || time(day.load(Ordering::Relaxed)))
        };
        let stripe = FakeStripe::start().await;
        let mut settings = AppSettings { clock, ..AppSettings::default() };
        settings.business.stripe = Some(stripe.client());
        let app = App::with(settings).await;
        app.database
            .execute(
                "UPDATE billing.plans SET stripe_price_id = 'price_' || plan WHERE NOT is_default",
            )
            .await;
        Self { app, day, events: AtomicI64::new(0), organization: String::new() }
    }

    fn day(&self, day: i64) {
        self.day.store(day, Ordering::Relaxed);
    }

    fn person(&self, name: &str, slug: Option<&str>) -> Client {
        let claims = json!({
            "sub": name, "name": name, "email": format!("{}@example.com", name.to_lowercase()),
            "email_verified": true, "exp": 4_000_000_000_i64,
        });
        self.app.client(slug, Some(app::token_with(&claims)))
    }

    fn at(&self, name: &str) -> Client {
        self.person(name, Some("initech"))
    }

    /// Stripe says how the subscription stands on this day.
    async fn stripe_says(&self, status: &str, plan: &str, more: Value) {
        let now = time(self.day.load(Ordering::Relaxed)).timestamp();
        let mut subscription = json!({
            "id": "sub_1", "customer": "cus_1", "status": status, "cancel_at_period_end": false,
            "metadata": { "organization_id": self.organization },
            "items": { "data": [{ "price": { "id": format!("price_{plan}") },
                "current_period_start": now, "current_period_end": now + 30 * 86_400 }] },
        });
        for (name, value) in more.as_object().unwrap() {
            subscription[name] = value.clone();
        }
        let number = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let event = json!({ "id": format!("evt_{number}"), "type": "customer.subscription.updated", "created": now,
            "data": { "object": subscription } });
        let body = event.to_string();
        let response = reqwest::Client::new()
            .post(format!("{}/webhooks/stripe", self.app.base))
            .header("stripe-signature", signature(WEBHOOK_SECRET, now, &body))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    }

    async fn plan(&self) -> String {
        let state = self.at("Ada").data(STATE).await;
        state["organization"]["plan"]["plan"].as_str().unwrap().to_owned()
    }

    async fn invited_and_in(&self, inviter: &str, name: &str, role: &str) -> String {
        let email = format!("{}@example.com", name.to_lowercase());
        let invite = format!(
            "mutation {{ inviteMember(input: {{ email: \"{email}\", role: {role} }}) {{ link }} }}"
        );
        let data = self.at(inviter).query(&invite).await.data();
        let token = data["inviteMember"]["link"]
            .as_str()
            .unwrap()
            .split("token=")
            .nth(1)
            .unwrap()
            .to_owned();
        let accept = format!(
            "mutation {{ acceptInvitation(input: {{ token: \"{token}\" }}) {{ member {{ id }} }} }}"
        );
        let data = self.person(name, None).query(&accept).await.data();
        data["acceptInvitation"]["member"]["id"].as_str().unwrap().to_owned()
    }

    async fn project(&self, by: &str, name: &str) -> crate::support::Reply {
        let create = format!(
            "mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ id }} }} }}"
        );
        self.at(by).query(&create).await
    }

    /// Every entry in order, without ids and times.
    async fn story(&self) -> String {
        let rows: Vec<String> = self
            .app
            .database
            .value(&format!(
                "SELECT array_agg(json_build_object('actor', actor_name, 'action', action, 'metadata', metadata)::text
                                  ORDER BY created_at, id)
                 FROM audit.audit_logs WHERE organization_id = '{}'",
                self.organization
            ))
            .await;
        let mut story = String::new();
        for row in rows {
            let mut entry: Value = serde_json::from_str(&row).unwrap();
            let metadata = entry["metadata"].as_object_mut().unwrap();
            metadata.remove("user_id");
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let (actor, action) = (text(&entry["actor"]), text(&entry["action"]));
            writeln!(story, "{actor}: {action} {}", entry["metadata"]).unwrap();
        }
        story
    }
}

fn time(day: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_tells_the_year() {
    let mut year = Year::begin().await;
    // January: founded, and on trial.
    let found = "mutation { createOrganization(input: { name: \"Initech\", slug: \"initech\" }) { organization { id } } }";
    let data = year.person("Ada", None).query(found).await.data();
    year.organization =
        data["createOrganization"]["organization"]["id"].as_str().unwrap().to_owned();
    year.at("Ada")
        .query(
            "mutation { inviteMember(input: { email: \"x@example.com\", role: MEMBER }) { link } }",
        )
        .await
        .assert_failed("PLAN_LIMIT_EXCEEDED");
    let checkout = "mutation { createCheckoutSession(input: { plan: \"pro\", trial: true }) { checkoutSession { url } } }";
    year.at("Ada").query(checkout).await.data();
    year.stripe_says("trialing", "pro", json!({ "trial_end": time(14).timestamp() })).await;
    assert_eq!(year.plan().await, "pro");
    let bob = year.invited_and_in("Ada", "Bob", "ADMIN").await;
    year.invited_and_in("Bob", "Cleo", "MEMBER").await;
    for name in ["Alpha", "Beta", "Gamma", "Delta", "Epsilon"] {
        year.project("Cleo", name).await.data();
    }
    // The trial ends; before its first payment arrives, the default plan is in effect.
    year.day(14);
    assert_eq!(year.plan().await, "free");
    year.stripe_says("active", "pro", json!({})).await;
    assert_eq!(year.plan().await, "pro");
    // March: grown.
    year.day(60);
    year.stripe_says("active", "enterprise", json!({})).await;
    year.project("Cleo", "Zeta").await.data();
    // June: a payment fails, and is forgiven for a week.
    year.day(150);
    year.stripe_says("past_due", "enterprise", json!({})).await;
    year.day(156);
    assert_eq!(year.plan().await, "enterprise");
    year.day(157);
    assert_eq!(year.plan().await, "free");
    year.project("Cleo", "Eta").await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let state = year.at("Ada").data(STATE).await;
    assert_eq!(
        state["organization"]["entitlements"][0],
        json!({ "feature": "PROJECTS", "limit": 3, "used": 6, "overLimit": true }),
        "nothing is deleted"
    );
    year.stripe_says("active", "pro", json!({})).await;
    year.project("Cleo", "Eta").await.data();
    // September: canceled at the period's end, and handed over.
    year.day(250);
    year.stripe_says("active", "pro", json!({ "cancel_at_period_end": true })).await;
    let delete =
        "mutation { deleteOrganization(input: { slug: \"initech\" }) { organization { id } } }";
    year.at("Ada").query(delete).await.assert_failed("CONFLICT");
    let transfer = format!(
        "mutation {{ transferOwnership(input: {{ memberId: \"{bob}\" }}) {{ member {{ role }} }} }}"
    );
    year.at("Ada").query(&transfer).await.data();
    year.day(281);
    assert_eq!(
        year.plan().await,
        "free",
        "the period has ended, whether or not Stripe has said so"
    );
    year.stripe_says("canceled", "pro", json!({ "cancel_at_period_end": true })).await;
    // December: the end.
    year.day(364);
    let leave = format!(
        "mutation {{ leaveOrganization(input: {{ organizationId: \"{}\" }}) {{ member {{ role }} }} }}",
        year.organization
    );
    year.at("Cleo").query(&leave).await.data();
    year.at("Ada").query(delete).await.assert_failed("FORBIDDEN");
    year.at("Bob").query(delete).await.data();
    year.at("Bob").query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
    insta::assert_snapshot!("year", year.story().await);
}
