//! A simulated year of a tenant, as its audit log records it.

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
    billing_app::PRICES,
    stripe::{FakeStripe, WEBHOOK_SECRET, signature},
};

const START: &str = "2030-01-01T00:00:00Z";
const STATE: &str =
    "{ organization { plan { key } entitlements { feature { key } limit used overLimit }
    billing { plan { key } status cancelAtPeriodEnd } } }";

struct Year {
    app: App,
    day: Arc<AtomicI64>,
    events: AtomicI64,
    organization: String,
}

impl Year {
    async fn start() -> Self {
        let day = Arc::new(AtomicI64::new(0));
        let clock = {
            let day = Arc::clone(&day);
            Clock::from_fn(move || time(day.load(Ordering::Relaxed)))
        };
        let stripe = FakeStripe::start().await;
        let mut settings = AppSettings { clock, ..AppSettings::default() };
        settings.areas.billing.stripe = Some(stripe.client());
        let app = App::with(settings).await;
        app.database.execute(PRICES).await;
        Self { app, day, events: AtomicI64::new(0), organization: String::new() }
    }

    fn set_day(&self, day: i64) {
        self.day.store(day, Ordering::Relaxed);
    }

    fn user(&self, name: &str, slug: Option<&str>) -> Client {
        let claims = json!({
            "sub": name, "name": name, "email": format!("{}@example.com", name.to_lowercase()),
            "email_verified": true, "exp": 4_000_000_000_i64,
        });
        self.app.client(slug, Some(app::token_with(&claims)))
    }

    fn at(&self, name: &str) -> Client {
        self.user(name, Some("initech"))
    }

    /// Delivers an event with the subscription's state on this day.
    async fn deliver_subscription(&self, status: &str, plan: &str, more: Value) {
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
        state["organization"]["plan"]["key"].as_str().unwrap().to_owned()
    }

    async fn add_member(&self, inviter: &str, name: &str, role: &str) -> String {
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
        let data = self.user(name, None).query(&accept).await.data();
        data["acceptInvitation"]["member"]["id"].as_str().unwrap().to_owned()
    }

    async fn project(&self, by: &str, name: &str) -> crate::support::Reply {
        let create = format!(
            "mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ id }} }} }}"
        );
        self.at(by).query(&create).await
    }

    /// Returns every entry in order, without ids and times.
    async fn audit_entries(&self) -> String {
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
        let mut audit_entries = String::new();
        for row in rows {
            let mut entry: Value = serde_json::from_str(&row).unwrap();
            let metadata = entry["metadata"].as_object_mut().unwrap();
            metadata.remove("user_id");
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let (actor, action) = (text(&entry["actor"]), text(&entry["action"]));
            writeln!(audit_entries, "{actor}: {action} {}", entry["metadata"]).unwrap();
        }
        audit_entries
    }
}

fn time(day: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_records_a_year() {
    let mut year = Year::start().await;
    // January: created, with a trial.
    let found = "mutation { createOrganization(input: { name: \"Initech\", slug: \"initech\" }) { organization { id } } }";
    let data = year.user("Ada", None).query(found).await.data();
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
    year.deliver_subscription("trialing", "pro", json!({ "trial_end": time(14).timestamp() }))
        .await;
    assert_eq!(year.plan().await, "pro");
    let bob = year.add_member("Ada", "Bob", "ADMIN").await;
    year.add_member("Bob", "Cleo", "MEMBER").await;
    for name in ["Alpha", "Beta", "Gamma", "Delta", "Epsilon"] {
        year.project("Cleo", name).await.data();
    }
    // The trial ends. The plan stays in effect while Stripe collects the first payment.
    year.set_day(14);
    assert_eq!(year.plan().await, "pro");
    year.deliver_subscription("active", "pro", json!({})).await;
    assert_eq!(year.plan().await, "pro");
    // March: a larger plan.
    year.set_day(60);
    year.deliver_subscription("active", "enterprise", json!({})).await;
    year.project("Cleo", "Zeta").await.data();
    // June: a payment fails, and the plan stays for the grace period of a week.
    year.set_day(150);
    year.deliver_subscription("past_due", "enterprise", json!({})).await;
    year.set_day(156);
    assert_eq!(year.plan().await, "enterprise");
    year.set_day(157);
    assert_eq!(year.plan().await, "free");
    year.project("Cleo", "Eta").await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let state = year.at("Ada").data(STATE).await;
    assert_eq!(
        state["organization"]["entitlements"][0],
        json!({ "feature": { "key": "projects" }, "limit": 3, "used": 6, "overLimit": true }),
        "nothing is deleted"
    );
    year.deliver_subscription("active", "pro", json!({})).await;
    year.project("Cleo", "Eta").await.data();
    // September: canceled at the end of the period, and ownership transferred.
    year.set_day(250);
    year.deliver_subscription("active", "pro", json!({ "cancel_at_period_end": true })).await;
    let delete =
        "mutation { deleteOrganization(input: { slug: \"initech\" }) { organization { id } } }";
    year.at("Ada").query(delete).await.assert_failed("CONFLICT");
    let transfer = format!(
        "mutation {{ transferOwnership(input: {{ memberId: \"{bob}\" }}) {{ member {{ role }} }} }}"
    );
    year.at("Ada").query(&transfer).await.data();
    year.set_day(281);
    assert_eq!(
        year.plan().await,
        "free",
        "the period has ended, whether or not Stripe has said so"
    );
    year.deliver_subscription("canceled", "pro", json!({ "cancel_at_period_end": true })).await;
    // December: the organization is deleted.
    year.set_day(364);
    let leave = format!(
        "mutation {{ leaveOrganization(input: {{ organizationId: \"{}\" }}) {{ member {{ role }} }} }}",
        year.organization
    );
    year.at("Cleo").query(&leave).await.data();
    year.at("Ada").query(delete).await.assert_failed("FORBIDDEN");
    year.at("Bob").query(delete).await.data();
    year.at("Bob").query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
    insta::assert_snapshot!("year", year.audit_entries().await);
}
