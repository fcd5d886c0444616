//! A server with billing through a fake Stripe that the test controls.

use chrono::Utc;
use serde_json::{Value, json};

use super::{
    App, AppSettings, Client,
    placement::GLOBEX,
    stripe::{FakeStripe, WEBHOOK_SECRET, signature},
};

pub const CHECKOUT: &str =
    "mutation { createCheckoutSession(input: { plan: \"pro\", successPath: \"/thanks?for=all\" }) {
    checkoutSession { id url } } }";
pub const PORTAL: &str =
    "mutation { createBillingPortalSession(input: {}) { billingPortalSession { id url } } }";
pub const STATE: &str = "{ organization { plan { key } billing { plan { key } status cancelAtPeriodEnd trialEndsAt } } }";

/// A monthly price for each plan but the default.
pub const PRICES: &str = "INSERT INTO billing.plan_prices (stripe_price_id, plan, interval)
    SELECT 'price_' || plan, plan, 'month' FROM billing.plans WHERE NOT is_default";

pub struct BillingApp {
    pub app: App,
    pub stripe: FakeStripe,
}

impl BillingApp {
    pub async fn start() -> Self {
        Self::with(AppSettings::default()).await
    }

    pub async fn with(mut settings: AppSettings) -> Self {
        let stripe = FakeStripe::start().await;
        settings.areas.billing.stripe = Some(stripe.client());
        Self::on(settings, stripe).await
    }

    /// Starts the server with a client of this fake in its settings.
    pub async fn on(settings: AppSettings, stripe: FakeStripe) -> Self {
        let app = App::with(settings).await;
        app.database.execute(PRICES).await;
        Self { app, stripe }
    }

    /// Starts the server with the customer `cus_1`, which tenantry has created for globex.
    pub async fn with_customer() -> Self {
        let billing = Self::start().await;
        billing.stripe.add_customer("cus_1", Some(GLOBEX));
        billing
    }

    pub fn owner(&self) -> Client {
        self.app.user("globex-owner")
    }

    pub async fn state(&self) -> Value {
        self.owner().data(STATE).await["organization"].clone()
    }

    /// Returns the effective plan and the status.
    pub async fn effective_plan(&self) -> (String, String) {
        let state = self.state().await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&state["plan"]["key"]), text(&state["billing"]["status"]))
    }

    pub async fn deliver(&self, event: &Value) -> (u16, String) {
        let body = event.to_string();
        let header = signature(WEBHOOK_SECRET, Utc::now().timestamp(), &body);
        self.post(body, Some(&header)).await
    }

    pub async fn post(&self, body: String, signature: Option<&str>) -> (u16, String) {
        let mut request =
            reqwest::Client::new().post(format!("{}/webhooks/stripe", self.app.base)).body(body);
        if let Some(signature) = signature {
            request = request.header("stripe-signature", signature);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Returns the audit entries about billing, oldest first: action and metadata.
    pub async fn audit_entries(&self) -> Vec<Value> {
        let data = self
            .owner()
            .data(
                "{ organization { auditLogs(filter: { resourceType: \"billing\" }) {
                nodes { action actorName metadata } } } }",
            )
            .await;
        let mut nodes = data["organization"]["auditLogs"]["nodes"].as_array().unwrap().clone();
        nodes.reverse();
        nodes
    }

    pub async fn error_of(&self, event: &str) -> Option<String> {
        let sql = format!("SELECT error FROM billing.stripe_events WHERE id = '{event}'");
        self.app.database.value(&sql).await
    }
}

pub fn subscription(id: &str, status: &str, price: &str) -> Value {
    json!({
        "id": id, "object": "subscription", "customer": "cus_1", "status": status,
        "metadata": { "organization_id": GLOBEX }, "cancel_at_period_end": false, "trial_end": null,
        "items": { "data": [{ "price": { "id": price },
            "current_period_start": 1_900_000_000, "current_period_end": 1_902_592_000 }] },
    })
}

pub fn event(id: &str, kind: &str, created: i64, object: &Value) -> Value {
    json!({ "id": id, "object": "event", "type": kind, "created": created, "data": { "object": object } })
}

pub fn updated(id: &str, created: i64, object: &Value) -> Value {
    event(id, "customer.subscription.updated", created, object)
}
