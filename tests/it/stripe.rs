//! Stripe: the calls to its API, and the effect of its events in any order and number.

use std::time::Duration;

use chrono::Utc;
use pg::Client;
use serde_json::{Value, json};

use crate::support::{
    App, AppSettings, HANG,
    billing_app::{BillingApp, CHECKOUT, PORTAL, STATE, event, subscription, updated},
    localstripe::Localstripe,
    placement::GLOBEX,
    stripe::{WEBHOOK_SECRET, client_of, signature},
};

#[tokio::test]
async fn a_checkout_calls_stripe_between_two_transactions() {
    let billing = BillingApp::start().await;
    let owner = billing.owner();
    owner.query(PORTAL).await.assert_failed("CONFLICT");
    let data = owner.query(CHECKOUT).await.data();
    let expected = json!({ "id": "cs_1", "url": "https://checkout.example/cs_1" });
    assert_eq!(data["createCheckoutSession"]["checkoutSession"], expected);
    let calls = billing.stripe.take_requests();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!((calls[0].path.as_str(), calls[0].form.len()), ("customers", 1));
    assert_eq!(calls[0].form["metadata[organization_id]"], GLOBEX);
    let form = &calls[1].form;
    assert!(!form.contains_key("client_reference_id"), "{form:?}");
    assert_eq!(form["success_url"], "https://app.example/thanks?for=all");
    assert_eq!(form["cancel_url"], "https://app.example/billing");
    assert_eq!(
        (form["customer"].as_str(), form["line_items[0][price]"].as_str()),
        ("cus_1", "price_pro")
    );
    assert_eq!(form["subscription_data[metadata][organization_id]"], GLOBEX);
    let intent: String = billing
        .app
        .database
        .value("SELECT id::text FROM app.outbox WHERE kind = 'stripe_checkout' AND processed_at IS NOT NULL")
        .await;
    assert_eq!(calls[1].key, intent, "the intent's id is the idempotency key");
    assert_eq!(
        billing.effective_plan().await,
        ("free".to_owned(), "ACTIVE".to_owned()),
        "nothing is paid yet"
    );

    let data = owner.query(PORTAL).await.data();
    assert_eq!(data["createBillingPortalSession"]["billingPortalSession"]["id"], "bps_1");
    owner.query(CHECKOUT).await.data();
    let paths: Vec<_> =
        billing.stripe.take_requests().into_iter().map(|calls| calls.path).collect();
    let expected =
        ["customers/cus_1", "billing_portal/sessions", "customers/cus_1", "checkout/sessions"];
    assert_eq!(paths, expected, "the customer is stored, and queried");
    let actions: Vec<_> =
        billing.audit_entries().await.into_iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(
        actions,
        ["billing.checkout_started", "billing.portal_opened", "billing.checkout_started"]
    );
}

#[tokio::test]
async fn no_transaction_is_open_during_a_call_to_stripe() {
    let billing = BillingApp::start().await;
    billing.stripe.set_delay(Duration::from_secs(1));
    let owner = billing.owner();
    let checkout = tokio::spawn(async move { owner.query(CHECKOUT).await });
    while billing.stripe.take_requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let open: Vec<String> = billing
        .app
        .database
        .value(
            "SELECT coalesce(array_agg(state), '{}') FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'tenantry%' AND xact_start IS NOT NULL",
        )
        .await;
    assert!(!checkout.is_finished());
    assert_eq!(open, [""; 0]);
    checkout.await.unwrap().data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_stripe_is_not_reported_as_undone() {
    let billing = BillingApp::start().await;
    billing.stripe.set_delay(Duration::from_millis(1_500));
    let owner = billing.owner();
    let asking = tokio::spawn(async move { owner.query(CHECKOUT).await });
    // The intent is committed, and the call to Stripe is in progress.
    let intents = "SELECT count(*) FROM app.outbox";
    while billing.app.database.value::<i64>(intents).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let database = &billing.app.database;
    let admin = Client::connect(&database.admin().with("dbname", "postgres")).await.unwrap();
    for sql in [
        format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", database.name),
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            database.name
        ),
    ] {
        admin.batch(&sql).await.unwrap();
    }
    let reply = asking.await.unwrap();
    assert_eq!(reply.codes(), ["UNAVAILABLE"], "{reply:?}");
    assert_eq!(reply.body["errors"][0]["extensions"]["outcome"], "UNKNOWN", "{reply:?}");
    assert_eq!(reply.body["data"], Value::Null);
    assert!(!billing.stripe.take_requests().is_empty(), "Stripe was queried");
}

#[tokio::test]
async fn a_failed_call_to_stripe_leaves_only_the_intent() {
    let billing = BillingApp::start().await;
    for (status, code) in [(500, "UNAVAILABLE"), (429, "UNAVAILABLE"), (400, "INTERNAL")] {
        billing.stripe.set_failure(Some(status));
        let reply = billing.owner().query(CHECKOUT).await;
        assert_eq!(reply.codes(), [code], "{reply:?}");
        let outcome = &reply.body["errors"][0]["extensions"]["outcome"];
        assert_eq!(outcome == "UNKNOWN", code == "UNAVAILABLE", "{reply:?}");
        assert!(!reply.text.contains("fails on demand"), "{reply:?}");
    }
    let left: i64 = billing
        .app
        .database
        .value("SELECT count(*) FROM app.outbox WHERE processed_at IS NULL AND due_at IS NULL")
        .await;
    assert_eq!((left, billing.audit_entries().await.len()), (3, 0));
    let customers: i64 = billing
        .app
        .database
        .value("SELECT count(stripe_customer_id) FROM billing.organization_billing")
        .await;
    assert_eq!(customers, 0);
}

#[tokio::test]
async fn only_stripe_changes_a_subscription_that_it_bills() {
    let billing = BillingApp::start().await;
    let before = billing.app.database.fingerprint().await;
    let owner = billing.owner();
    for (document, code) in [
        (
            "mutation { changePlan(input: { plan: \"pro\" }) { billing { plan { key } } } }",
            "CONFLICT",
        ),
        (
            "mutation { startTrial(input: { plan: \"pro\" }) { billing { plan { key } } } }",
            "CONFLICT",
        ),
        (
            "mutation { createCheckoutSession(input: { plan: \"free\" }) { checkoutSession { id } } }",
            "BAD_USER_INPUT",
        ),
        (
            "mutation { createCheckoutSession(input: { plan: \"gold\" }) { checkoutSession { id } } }",
            "BAD_USER_INPUT",
        ),
        (
            "mutation { createCheckoutSession(input: { plan: \"pro\", cancelPath: \"//evil.example\" }) { checkoutSession { id } } }",
            "BAD_USER_INPUT",
        ),
        (
            "mutation { createBillingPortalSession(input: { returnPath: \"https://evil.example\" }) { billingPortalSession { id } } }",
            "BAD_USER_INPUT",
        ),
    ] {
        owner.query(document).await.assert_failed(code);
    }
    let two = "mutation { createProject(input: { name: \"x\" }) { project { id } }
        createBillingPortalSession(input: {}) { billingPortalSession { id } } }";
    owner.query(two).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    billing.app.user("globex-admin").query(CHECKOUT).await.assert_failed("FORBIDDEN");
    assert_eq!(billing.app.database.fingerprint().await, before);
    assert!(billing.stripe.take_requests().is_empty());
}

#[tokio::test]
async fn the_events_determine_the_subscription() {
    let billing = BillingApp::with_customer().await;
    let mut trial = subscription("sub_1", "trialing", "price_pro");
    trial["trial_end"] = json!(4_000_000_000_i64);
    let created = event("evt_1", "customer.subscription.created", 100, &trial);
    assert_eq!(billing.deliver(&created).await, (200, "applied\n".to_owned()));
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "TRIALING".to_owned()));
    let mut active = subscription("sub_1", "active", "price_enterprise");
    assert_eq!(billing.deliver(&updated("evt_2", 200, &active)).await.0, 200);
    assert_eq!(billing.effective_plan().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    active["cancel_at_period_end"] = json!(true);
    billing.deliver(&updated("evt_3", 300, &active)).await;
    assert_eq!(billing.state().await["billing"]["cancelAtPeriodEnd"], true);
    let now = Utc::now().timestamp();
    let due = subscription("sub_1", "past_due", "price_enterprise");
    billing.deliver(&updated("evt_4", now - 6 * 86_400, &due)).await;
    assert_eq!(
        billing.effective_plan().await,
        ("enterprise".to_owned(), "PAST_DUE".to_owned()),
        "within the week"
    );
    let ended = subscription("sub_1", "canceled", "price_enterprise");
    billing.deliver(&event("evt_5", "customer.subscription.deleted", now, &ended)).await;
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "CANCELED".to_owned()));
    let (status, response) = billing.deliver(&updated("evt_6", now + 1, &active)).await;
    assert_eq!((status, response.contains("ended permanently")), (200, true), "{response}");
    assert_eq!(billing.effective_plan().await.1, "CANCELED");

    let audit_entries = billing.audit_entries().await;
    assert!(audit_entries.iter().all(|entry| entry["actorName"] == "Stripe"), "{audit_entries:?}");
    let late_event: Vec<_> = audit_entries
        .iter()
        .map(|entry| {
            (entry["action"].as_str().unwrap(), entry["metadata"]["event"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        late_event,
        [
            ("billing.plan_changed", "evt_1"),
            ("billing.plan_changed", "evt_2"),
            ("billing.subscription_updated", "evt_3"),
            ("billing.subscription_updated", "evt_4"),
            ("billing.subscription_updated", "evt_5"),
        ]
    );
    assert_eq!(audit_entries[0]["metadata"]["old_plan"], "free");
    assert_eq!(audit_entries[0]["metadata"]["status"], "trialing");
    let paths: Vec<_> =
        billing.stripe.take_requests().into_iter().map(|calls| calls.path).collect();
    // At the end, whether the customer has another subscription, and whether it has really ended.
    let expected = ["customers/cus_1", "subscriptions", "subscriptions/sub_1"];
    assert_eq!(paths, expected, "the events had everything else");
}

#[tokio::test]
async fn an_older_event_changes_nothing_and_stripe_decides_between_two_in_a_second() {
    let billing = BillingApp::with_customer().await;
    let active = subscription("sub_1", "active", "price_pro");
    let due = subscription("sub_1", "past_due", "price_pro");
    billing.deliver(&updated("evt_2", 200, &active)).await;
    billing.stripe.take_requests();
    let (_, response) = billing.deliver(&updated("evt_1", 100, &due)).await;
    assert!(response.contains("newer event"), "{response}");
    assert_eq!(billing.effective_plan().await.1, "ACTIVE");
    billing.stripe.set_subscription(&subscription("sub_1", "unpaid", "price_pro"));
    assert_eq!(billing.deliver(&updated("evt_3", 200, &due)).await, (200, "applied\n".to_owned()));
    assert_eq!(
        billing.effective_plan().await,
        ("free".to_owned(), "UNPAID".to_owned()),
        "as Stripe says now"
    );
    assert_eq!(billing.stripe.take_requests().len(), 1);
    billing.stripe.set_failure(Some(503));
    let tie = updated("evt_4", 200, &active);
    assert_eq!(billing.deliver(&tie).await.0, 503, "Stripe will send it again");
    assert_eq!(billing.effective_plan().await.1, "UNPAID");
    assert!(billing.error_of("evt_4").await.unwrap().contains("503"));
    billing.stripe.set_failure(None);
    assert_eq!(billing.deliver(&tie).await, (200, "applied\n".to_owned()));
    assert_eq!(billing.error_of("evt_4").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_delivered_twenty_times_concurrently_is_applied_once() {
    let billing = BillingApp::with_customer().await;
    let created = event(
        "evt_1",
        "customer.subscription.created",
        100,
        &subscription("sub_1", "active", "price_pro"),
    );
    let deliveries = (0..20).map(|_| billing.deliver(&created));
    let responses = futures_util::future::join_all(deliveries).await;
    assert!(responses.iter().all(|(status, _)| *status == 200), "{responses:?}");
    let applied = responses.iter().filter(|(_, response)| response == "applied\n").count();
    assert_eq!((applied, billing.audit_entries().await.len()), (1, 1), "{responses:?}");
    let attempts: i32 =
        billing.app.database.value("SELECT attempts FROM billing.stripe_events").await;
    assert_eq!(attempts, 20);
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_is_stored_and_applied_when_delivered_again() {
    let billing = BillingApp::with_customer().await;
    let pro = event(
        "evt_1",
        "customer.subscription.created",
        100,
        &subscription("sub_1", "active", "price_pro"),
    );
    billing.app
        .database
        .execute("CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
                  CREATE TRIGGER fail BEFORE INSERT ON audit.audit_logs FOR EACH ROW EXECUTE FUNCTION public.fail()")
        .await;
    assert_eq!(billing.deliver(&pro).await.0, 503);
    assert_eq!(billing.effective_plan().await.0, "free", "not without its audit entry");
    assert!(billing.error_of("evt_1").await.unwrap().contains("the disk is full"));
    billing.app.database.execute("DROP TRIGGER fail ON audit.audit_logs").await;
    assert_eq!(billing.deliver(&pro).await, (200, "applied\n".to_owned()));
    assert_eq!(billing.effective_plan().await.0, "pro");
    assert!(billing.deliver(&pro).await.1.contains("already applied"));
}

#[tokio::test]
async fn another_subscription_takes_effect_once_the_first_has_ended() {
    let billing = BillingApp::with_customer().await;
    let first = |status: &str| subscription("sub_1", status, "price_pro");
    billing.deliver(&updated("evt_1", 500, &first("active"))).await;
    let second = subscription("sub_2", "active", "price_enterprise");
    billing.stripe.set_subscription(&second);
    billing.stripe.set_subscription(&first("active"));
    // Both are live, so the customer pays twice.
    billing.deliver(&updated("evt_2", 600, &second)).await;
    assert!(billing.error_of("evt_2").await.unwrap().contains("another live subscription"));
    assert_eq!(billing.effective_plan().await.0, "pro");
    billing
        .deliver(&event("evt_3", "customer.subscription.deleted", 700, &first("canceled")))
        .await;
    assert_eq!(billing.effective_plan().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    // The late event adds nothing.
    billing.stripe.set_subscription(&first("canceled"));
    let (_, response) = billing.deliver(&updated("evt_4", 650, &first("active"))).await;
    assert!(response.contains("not the current one") || response.contains("another"), "{response}");

    // In the other order: the second subscription's event arrives before the end of the first.
    let billing = BillingApp::with_customer().await;
    billing.deliver(&updated("evt_1", 500, &first("active"))).await;
    billing.stripe.set_subscription(&first("canceled"));
    billing.stripe.set_subscription(&second);
    let completed = json!({ "id": "cs_1", "customer": "cus_1", "subscription": "sub_2", "client_reference_id": GLOBEX });
    let late_event = event("evt_2", "checkout.session.completed", 611, &completed);
    assert_eq!(billing.deliver(&late_event).await.1, "applied\n");
    billing
        .deliver(&event("evt_3", "customer.subscription.deleted", 600, &first("canceled")))
        .await;
    assert_eq!(billing.effective_plan().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    // A subscription that was never paid gives no plan.
    let billing = BillingApp::with_customer().await;
    billing
        .deliver(&updated("evt_1", 500, &subscription("sub_1", "incomplete", "price_pro")))
        .await;
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "INCOMPLETE".to_owned()));
    assert_eq!(
        billing
            .deliver(&updated("evt_2", 600, &subscription("sub_1", "active", "price_pro")))
            .await
            .0,
        200
    );
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
}

#[tokio::test]
async fn the_end_of_a_subscription_is_confirmed_with_stripe() {
    let billing = BillingApp::with_customer().await;
    let of = |mutation: &str| {
        format!(
            "mutation {{ {mutation}(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ cancelAtPeriodEnd periodEnd }} }} }}"
        )
    };
    let owner = billing.owner();
    owner.query(&of("cancelSubscription")).await.assert_failed("CONFLICT");
    let active = subscription("sub_1", "active", "price_pro");
    billing.stripe.set_subscription(&active);
    billing.deliver(&updated("evt_1", 500, &active)).await;
    owner.query(CHECKOUT).await.assert_failed("CONFLICT");
    owner
        .query(
            "mutation { deleteOrganization(input: { slug: \"globex\" }) { organization { id } } }",
        )
        .await
        .assert_failed("CONFLICT");
    let data = owner.query(&of("cancelSubscription")).await.data();
    let expected = json!({ "cancelAtPeriodEnd": true, "periodEnd": "2030-04-16T17:46:40+00:00" });
    assert_eq!(data["cancelSubscription"]["billing"], expected);
    billing.stripe.set_failure(Some(500));
    let reply = owner.query(&of("resumeSubscription")).await;
    assert_eq!(reply.codes(), ["UNAVAILABLE"]);
    assert_eq!(billing.state().await["billing"]["cancelAtPeriodEnd"], true);
    billing.stripe.set_failure(None);
    let data = owner.query(&of("resumeSubscription")).await.data();
    assert_eq!(data["resumeSubscription"]["billing"]["cancelAtPeriodEnd"], false);
    let actions: Vec<_> =
        billing.audit_entries().await.into_iter().map(|entry| entry["action"].clone()).collect();
    let expected =
        ["billing.plan_changed", "billing.subscription_canceled", "billing.subscription_resumed"];
    assert_eq!(actions, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_older_than_an_event_changes_nothing() {
    let billing = BillingApp::with_customer().await;
    let mut active = subscription("sub_1", "active", "price_pro");
    active["cancel_at_period_end"] = json!(true);
    billing.stripe.set_subscription(&active);
    billing.deliver(&updated("evt_1", 500, &active)).await;
    billing.stripe.take_requests();
    billing.stripe.set_delay(Duration::from_secs(3));
    let owner = billing.owner();
    let resume = tokio::spawn(async move {
        let mutation = format!(
            "mutation {{ resumeSubscription(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ status }} }} }}"
        );
        owner.query(&mutation).await
    });
    // The event arrives while the call to Stripe is in progress.
    while billing.stripe.take_requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    billing.stripe.set_delay(Duration::ZERO);
    let ended = subscription("sub_1", "canceled", "price_pro");
    billing.deliver(&event("evt_2", "customer.subscription.deleted", 600, &ended)).await;
    resume.await.unwrap().assert_failed("CONFLICT");
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "CANCELED".to_owned()));
}

#[tokio::test]
async fn only_recently_signed_events_are_accepted() {
    let billing = BillingApp::with_customer().await;
    let before = billing.app.database.fingerprint().await;
    let body = updated("evt_1", 100, &subscription("sub_1", "active", "price_pro")).to_string();
    let now = Utc::now().timestamp();
    let good = signature(WEBHOOK_SECRET, now, &body);
    for (body, signature) in [
        (body.clone(), None),
        (body.clone(), Some(signature("whsec_other", now, &body))),
        // Minutes beyond the limit, because time passes here. A unit test covers the limit itself
        // with a fixed clock.
        (body.clone(), Some(signature(WEBHOOK_SECRET, now - 600, &body))),
        (body.clone(), Some(signature(WEBHOOK_SECRET, now + 600, &body))),
        (body.replace("price_pro", "price_enterprise"), Some(good.clone())),
        (body.clone(), Some(good.replace("v1=", "v0="))),
        ("not JSON".to_owned(), Some(signature(WEBHOOK_SECRET, now, "not JSON"))),
        ("{}".to_owned(), Some(signature(WEBHOOK_SECRET, now, "{}"))),
    ] {
        let (status, response) = billing.post(body, signature.as_deref()).await;
        assert_eq!(status, 400, "{response}");
    }
    assert_eq!(billing.app.database.fingerprint().await, before, "nothing of it was kept");
    // Signed, but of a type that tenantry ignores.
    let invoice = event("evt_2", "invoice.paid", 100, &json!({ "id": "in_1" }));
    assert_eq!(billing.deliver(&invoice).await.0, 200);
    let mut foreign = subscription("sub_9", "active", "price_pro");
    (foreign["customer"], foreign["metadata"]) = (json!("cus_9"), json!({}));
    let (status, response) = billing.deliver(&updated("evt_3", 100, &foreign)).await;
    assert_eq!((status, response.contains("foreign customer")), (200, true), "{response}");
    assert_eq!(billing.effective_plan().await.0, "free");
    // Without Stripe the route does not exist.
    let app = App::start().await;
    let url = format!("{}/webhooks/stripe", app.base);
    let status = reqwest::Client::new()
        .post(url)
        .header("stripe-signature", good)
        .body(body)
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_independent_stripe_implementation_is_understood() {
    let Some(other) = Localstripe::start().await else {
        eprintln!("SKIPPED: python3 is missing");
        return;
    };
    let client = client_of(&other.base);
    let mut settings = AppSettings::default();
    settings.areas.billing.stripe = Some(client.clone());
    let app = App::with(settings).await;
    app.database
        .execute("INSERT INTO billing.plan_prices (stripe_price_id, plan, interval) VALUES ('price_pro', 'pro', 'month')")
        .await;
    let webhook = format!("{}/webhooks/stripe", app.base);
    other.post("_config/webhooks/tenantry", &[("url", &webhook), ("secret", WEBHOOK_SECRET)]).await;
    let plan = [
        ("id", "price_pro"),
        ("amount", "0"),
        ("currency", "usd"),
        ("interval", "month"),
        ("product[name]", "Pro"),
    ];
    other.post("v1/plans", &plan).await;
    let customer = client.create_customer(GLOBEX, None, "test").await.unwrap();
    let form = [
        ("customer", customer.as_str()),
        ("items[0][plan]", "price_pro"),
        ("metadata[organization_id]", GLOBEX),
    ];
    let subscription = other.post("v1/subscriptions", &form).await;
    let id = subscription["id"].as_str().unwrap();

    let owner = app.user("globex-owner");
    let reaches = async |plan: &str, status: &str| {
        let start = std::time::Instant::now();
        loop {
            let state = owner.data(STATE).await["organization"].clone();
            if state["plan"]["key"] == plan && state["billing"]["status"] == status {
                return state;
            }
            assert!(start.elapsed() < HANG, "{state}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(reaches("pro", "ACTIVE").await["billing"]["plan"]["key"], "pro");
    let cancel = format!(
        "mutation {{ cancelSubscription(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ cancelAtPeriodEnd periodEnd }} }} }}"
    );
    let data = owner.query(&cancel).await.data();
    assert_eq!(data["cancelSubscription"]["billing"]["cancelAtPeriodEnd"], true);
    assert!(client.subscription(id).await.unwrap().unwrap().cancels);
    other.delete(&format!("v1/subscriptions/{id}")).await;
    reaches("free", "CANCELED").await;
    let failed: i64 = app
        .database
        .value("SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NULL")
        .await;
    assert_eq!(failed, 0);
}
