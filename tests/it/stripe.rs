//! Stripe: what it is asked, and what its events do, in whatever order and however often they come.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{
    App, AppSettings, HANG,
    localstripe::Localstripe,
    placement::GLOBEX,
    shop::{CHECKOUT, PORTAL, STATE, Shop, event, subscription, updated},
    stripe::{WEBHOOK_SECRET, client_of, signature},
};

#[tokio::test]
async fn a_checkout_is_asked_for_between_two_transactions() {
    let shop = Shop::open().await;
    let owner = shop.owner();
    owner.query(PORTAL).await.assert_failed("CONFLICT");
    let data = owner.query(CHECKOUT).await.data();
    let expected = json!({ "id": "cs_1", "url": "https://checkout.example/cs_1" });
    assert_eq!(data["createCheckoutSession"]["checkoutSession"], expected);
    let asked = shop.stripe.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!((asked[0].path.as_str(), asked[0].form.len()), ("customers", 1));
    assert_eq!(asked[0].form["metadata[organization_id]"], GLOBEX);
    let form = &asked[1].form;
    assert!(!form.contains_key("client_reference_id"), "{form:?}");
    assert_eq!(form["success_url"], "https://app.example/thanks?for=all");
    assert_eq!(form["cancel_url"], "https://app.example/billing");
    assert_eq!(
        (form["customer"].as_str(), form["line_items[0][price]"].as_str()),
        ("cus_1", "price_pro")
    );
    assert_eq!(form["subscription_data[metadata][organization_id]"], GLOBEX);
    let intent: String = shop
        .app
        .database
        .value("SELECT id::text FROM app.outbox WHERE kind = 'stripe_checkout' AND processed_at IS NOT NULL")
        .await;
    assert_eq!(asked[1].key, intent, "the intent's id is the idempotency key");
    assert_eq!(
        shop.stands().await,
        ("free".to_owned(), "ACTIVE".to_owned()),
        "nothing is paid yet"
    );

    let data = owner.query(PORTAL).await.data();
    assert_eq!(data["createBillingPortalSession"]["billingPortalSession"]["id"], "bps_1");
    owner.query(CHECKOUT).await.data();
    let paths: Vec<_> = shop.stripe.asked().into_iter().map(|asked| asked.path).collect();
    let expected =
        ["customers/cus_1", "billing_portal/sessions", "customers/cus_1", "checkout/sessions"];
    assert_eq!(paths, expected, "the customer is known, and looked at");
    let actions: Vec<_> =
        shop.story().await.into_iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(
        actions,
        ["billing.checkout_started", "billing.portal_opened", "billing.checkout_started"]
    );
}

#[tokio::test]
async fn no_transaction_is_open_while_stripe_thinks() {
    let shop = Shop::open().await;
    shop.stripe.takes(Duration::from_secs(1));
    let owner = shop.owner();
    let checkout = tokio::spawn(async move { owner.query(CHECKOUT).await });
    while shop.stripe.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let open: Vec<String> = shop
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
async fn what_stripe_was_asked_is_not_told_as_undone_when_there_is_no_way_back() {
    let shop = Shop::open().await;
    shop.stripe.takes(Duration::from_millis(1_500));
    let owner = shop.owner();
    let asking = tokio::spawn(async move { owner.query(CHECKOUT).await });
    // The intent is committed: Stripe is being asked.
    let intents = "SELECT count(*) FROM app.outbox";
    while shop.app.database.value::<i64>(intents).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let database = &shop.app.database;
    let mut admin =
        PgConnection::connect_with(&database.admin().database("postgres")).await.unwrap();
    for sql in [
        format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", database.name),
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            database.name
        ),
    ] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let reply = asking.await.unwrap();
    assert_eq!(reply.codes(), ["UNAVAILABLE"], "{reply:?}");
    assert_eq!(reply.body["errors"][0]["extensions"]["outcome"], "UNKNOWN", "{reply:?}");
    assert_eq!(reply.body["data"], Value::Null);
    assert!(!shop.stripe.asked().is_empty(), "Stripe was asked");
}

#[tokio::test]
async fn a_stripe_that_fails_leaves_no_more_than_the_intent() {
    let shop = Shop::open().await;
    for (status, code) in [(500, "UNAVAILABLE"), (429, "UNAVAILABLE"), (400, "INTERNAL")] {
        shop.stripe.fails_with(Some(status));
        let reply = shop.owner().query(CHECKOUT).await;
        assert_eq!(reply.codes(), [code], "{reply:?}");
        let outcome = &reply.body["errors"][0]["extensions"]["outcome"];
        assert_eq!(outcome == "UNKNOWN", code == "UNAVAILABLE", "{reply:?}");
        assert!(!reply.text.contains("told to fail"), "{reply:?}");
    }
    let left: i64 = shop
        .app
        .database
        .value("SELECT count(*) FROM app.outbox WHERE processed_at IS NULL AND due_at IS NULL")
        .await;
    assert_eq!((left, shop.story().await.len()), (3, 0));
    let customers: i64 = shop
        .app
        .database
        .value("SELECT count(stripe_customer_id) FROM billing.organization_billing")
        .await;
    assert_eq!(customers, 0);
}

#[tokio::test]
async fn what_stripe_keeps_nobody_else_changes() {
    let shop = Shop::open().await;
    let before = shop.app.database.fingerprint().await;
    let owner = shop.owner();
    for (document, code) in [
        ("mutation { changePlan(input: { plan: \"pro\" }) { billing { plan } } }", "CONFLICT"),
        ("mutation { startTrial(input: { plan: \"pro\" }) { billing { plan } } }", "CONFLICT"),
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
    shop.app.person("globex-admin").query(CHECKOUT).await.assert_failed("FORBIDDEN");
    assert_eq!(shop.app.database.fingerprint().await, before);
    assert!(shop.stripe.asked().is_empty());
}

#[tokio::test]
async fn a_subscription_is_what_its_events_say() {
    let shop = Shop::with_customer().await;
    let mut trial = subscription("sub_1", "trialing", "price_pro");
    trial["trial_end"] = json!(4_000_000_000_i64);
    let created = event("evt_1", "customer.subscription.created", 100, &trial);
    assert_eq!(shop.deliver(&created).await, (200, "applied\n".to_owned()));
    assert_eq!(shop.stands().await, ("pro".to_owned(), "TRIALING".to_owned()));
    let mut active = subscription("sub_1", "active", "price_enterprise");
    assert_eq!(shop.deliver(&updated("evt_2", 200, &active)).await.0, 200);
    assert_eq!(shop.stands().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    active["cancel_at_period_end"] = json!(true);
    shop.deliver(&updated("evt_3", 300, &active)).await;
    assert_eq!(shop.state().await["billing"]["cancelAtPeriodEnd"], true);
    let now = Utc::now().timestamp();
    let due = subscription("sub_1", "past_due", "price_enterprise");
    shop.deliver(&updated("evt_4", now - 6 * 86_400, &due)).await;
    assert_eq!(
        shop.stands().await,
        ("enterprise".to_owned(), "PAST_DUE".to_owned()),
        "within the week"
    );
    let ended = subscription("sub_1", "canceled", "price_enterprise");
    shop.deliver(&event("evt_5", "customer.subscription.deleted", now, &ended)).await;
    assert_eq!(shop.stands().await, ("free".to_owned(), "CANCELED".to_owned()));
    let (status, answer) = shop.deliver(&updated("evt_6", now + 1, &active)).await;
    assert_eq!((status, answer.contains("ended permanently")), (200, true), "{answer}");
    assert_eq!(shop.stands().await.1, "CANCELED");

    let story = shop.story().await;
    assert!(story.iter().all(|entry| entry["actorName"] == "Stripe"), "{story:?}");
    let told: Vec<_> = story
        .iter()
        .map(|entry| {
            (entry["action"].as_str().unwrap(), entry["metadata"]["event"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("billing.plan_changed", "evt_1"),
            ("billing.plan_changed", "evt_2"),
            ("billing.subscription_updated", "evt_3"),
            ("billing.subscription_updated", "evt_4"),
            ("billing.subscription_updated", "evt_5"),
        ]
    );
    assert_eq!(story[0]["metadata"]["old_plan"], "free");
    assert_eq!(story[0]["metadata"]["status"], "trialing");
    let paths: Vec<_> = shop.stripe.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["customers/cus_1"], "the events told everything else");
}

#[tokio::test]
async fn an_older_event_changes_nothing_and_of_two_in_a_second_stripe_decides() {
    let shop = Shop::with_customer().await;
    let active = subscription("sub_1", "active", "price_pro");
    let due = subscription("sub_1", "past_due", "price_pro");
    shop.deliver(&updated("evt_2", 200, &active)).await;
    shop.stripe.asked();
    let (_, answer) = shop.deliver(&updated("evt_1", 100, &due)).await;
    assert!(answer.contains("newer event"), "{answer}");
    assert_eq!(shop.stands().await.1, "ACTIVE");
    shop.stripe.knows(&subscription("sub_1", "unpaid", "price_pro"));
    assert_eq!(shop.deliver(&updated("evt_3", 200, &due)).await, (200, "applied\n".to_owned()));
    assert_eq!(shop.stands().await, ("free".to_owned(), "UNPAID".to_owned()), "as Stripe says now");
    assert_eq!(shop.stripe.asked().len(), 1);
    shop.stripe.fails_with(Some(503));
    let tie = updated("evt_4", 200, &active);
    assert_eq!(shop.deliver(&tie).await.0, 503, "Stripe is to send it again");
    assert_eq!(shop.stands().await.1, "UNPAID");
    assert!(shop.error_of("evt_4").await.unwrap().contains("503"));
    shop.stripe.fails_with(None);
    assert_eq!(shop.deliver(&tie).await, (200, "applied\n".to_owned()));
    assert_eq!(shop.error_of("evt_4").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_twenty_times_at_once_is_applied_once() {
    let shop = Shop::with_customer().await;
    let created = event(
        "evt_1",
        "customer.subscription.created",
        100,
        &subscription("sub_1", "active", "price_pro"),
    );
    let deliveries = (0..20).map(|_| shop.deliver(&created));
    let answers = futures_util::future::join_all(deliveries).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let applied = answers.iter().filter(|(_, answer)| answer == "applied\n").count();
    assert_eq!((applied, shop.story().await.len()), (1, 1), "{answers:?}");
    let attempts: i32 = shop.app.database.value("SELECT attempts FROM billing.stripe_events").await;
    assert_eq!(attempts, 20);
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_is_kept_and_applied_when_it_comes_again() {
    let shop = Shop::with_customer().await;
    let pro = event(
        "evt_1",
        "customer.subscription.created",
        100,
        &subscription("sub_1", "active", "price_pro"),
    );
    shop.app
        .database
        .execute("CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
                  CREATE TRIGGER fail BEFORE INSERT ON audit.audit_logs FOR EACH ROW EXECUTE FUNCTION public.fail()")
        .await;
    assert_eq!(shop.deliver(&pro).await.0, 503);
    assert_eq!(shop.stands().await.0, "free", "not without its audit entry");
    assert!(shop.error_of("evt_1").await.unwrap().contains("the disk is full"));
    shop.app.database.execute("DROP TRIGGER fail ON audit.audit_logs").await;
    assert_eq!(shop.deliver(&pro).await, (200, "applied\n".to_owned()));
    assert_eq!(shop.stands().await.0, "pro");
    assert!(shop.deliver(&pro).await.1.contains("applied before"));

    let unknown = updated("evt_2", 200, &subscription("sub_1", "active", "price_of_nothing"));
    assert_eq!(shop.deliver(&unknown).await.0, 500);
    assert!(shop.error_of("evt_2").await.unwrap().contains("price_of_nothing"));
    assert_eq!(shop.stands().await.0, "pro");
}

#[tokio::test]
async fn another_subscription_counts_once_the_first_has_ended() {
    let shop = Shop::with_customer().await;
    let first = |status: &str| subscription("sub_1", status, "price_pro");
    shop.deliver(&updated("evt_1", 500, &first("active"))).await;
    let second = subscription("sub_2", "active", "price_enterprise");
    shop.stripe.knows(&second);
    shop.stripe.knows(&first("active"));
    // Both live: somebody pays twice. Stripe goes on sending, until one of them ends.
    let both = updated("evt_2", 600, &second);
    assert_eq!(shop.deliver(&both).await.0, 500);
    assert!(shop.error_of("evt_2").await.unwrap().contains("another live subscription"));
    assert_eq!(shop.stands().await.0, "pro");
    shop.deliver(&event("evt_3", "customer.subscription.deleted", 700, &first("canceled"))).await;
    assert_eq!(shop.deliver(&both).await.1, "applied\n");
    assert_eq!(shop.stands().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    // What came late tells nothing new.
    shop.stripe.knows(&first("canceled"));
    let (_, answer) = shop.deliver(&updated("evt_4", 650, &first("active"))).await;
    assert!(answer.contains("not the current one") || answer.contains("another"), "{answer}");

    // In the other order: the second is told of while the end of the first is still on its way.
    let shop = Shop::with_customer().await;
    shop.deliver(&updated("evt_1", 500, &first("active"))).await;
    shop.stripe.knows(&first("canceled"));
    shop.stripe.knows(&second);
    let completed = json!({ "id": "cs_1", "customer": "cus_1", "subscription": "sub_2", "client_reference_id": GLOBEX });
    let told = event("evt_2", "checkout.session.completed", 611, &completed);
    assert_eq!(shop.deliver(&told).await.1, "applied\n");
    shop.deliver(&event("evt_3", "customer.subscription.deleted", 600, &first("canceled"))).await;
    assert_eq!(shop.stands().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    // What was never paid for is no plan.
    let shop = Shop::with_customer().await;
    shop.deliver(&updated("evt_1", 500, &subscription("sub_1", "incomplete", "price_pro"))).await;
    assert_eq!(shop.stands().await, ("free".to_owned(), "INCOMPLETE".to_owned()));
    assert_eq!(
        shop.deliver(&updated("evt_2", 600, &subscription("sub_1", "active", "price_pro"))).await.0,
        200
    );
    assert_eq!(shop.stands().await, ("pro".to_owned(), "ACTIVE".to_owned()));
}

#[tokio::test]
async fn the_end_of_a_subscription_is_settled_with_stripe() {
    let shop = Shop::with_customer().await;
    let of = |mutation: &str| {
        format!(
            "mutation {{ {mutation}(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ cancelAtPeriodEnd periodEnd }} }} }}"
        )
    };
    let owner = shop.owner();
    owner.query(&of("cancelSubscription")).await.assert_failed("CONFLICT");
    let active = subscription("sub_1", "active", "price_pro");
    shop.stripe.knows(&active);
    shop.deliver(&updated("evt_1", 500, &active)).await;
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
    shop.stripe.fails_with(Some(500));
    let reply = owner.query(&of("resumeSubscription")).await;
    assert_eq!(reply.codes(), ["UNAVAILABLE"]);
    assert_eq!(shop.state().await["billing"]["cancelAtPeriodEnd"], true);
    shop.stripe.fails_with(None);
    let data = owner.query(&of("resumeSubscription")).await.data();
    assert_eq!(data["resumeSubscription"]["billing"]["cancelAtPeriodEnd"], false);
    let actions: Vec<_> =
        shop.story().await.into_iter().map(|entry| entry["action"].clone()).collect();
    let expected =
        ["billing.plan_changed", "billing.subscription_canceled", "billing.subscription_resumed"];
    assert_eq!(actions, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_older_than_an_event_changes_nothing() {
    let shop = Shop::with_customer().await;
    let mut active = subscription("sub_1", "active", "price_pro");
    active["cancel_at_period_end"] = json!(true);
    shop.stripe.knows(&active);
    shop.deliver(&updated("evt_1", 500, &active)).await;
    shop.stripe.takes(Duration::from_millis(600));
    let owner = shop.owner();
    let resume = tokio::spawn(async move {
        let mutation = format!(
            "mutation {{ resumeSubscription(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ status }} }} }}"
        );
        owner.query(&mutation).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ended = subscription("sub_1", "canceled", "price_pro");
    shop.deliver(&event("evt_2", "customer.subscription.deleted", 600, &ended)).await;
    let data = resume.await.unwrap().data();
    assert_eq!(data["resumeSubscription"]["billing"]["status"], "CANCELED");
    assert_eq!(shop.stands().await, ("free".to_owned(), "CANCELED".to_owned()));
}

#[tokio::test]
async fn only_what_stripe_signed_just_now_is_taken() {
    let shop = Shop::with_customer().await;
    let before = shop.app.database.fingerprint().await;
    let body = updated("evt_1", 100, &subscription("sub_1", "active", "price_pro")).to_string();
    let now = Utc::now().timestamp();
    let good = signature(WEBHOOK_SECRET, now, &body);
    for (body, signature) in [
        (body.clone(), None),
        (body.clone(), Some(signature("whsec_other", now, &body))),
        // Minutes beyond the edge, because time goes on here; the edge itself is tried with a fixed
        // clock.
        (body.clone(), Some(signature(WEBHOOK_SECRET, now - 600, &body))),
        (body.clone(), Some(signature(WEBHOOK_SECRET, now + 600, &body))),
        (body.replace("price_pro", "price_enterprise"), Some(good.clone())),
        (body.clone(), Some(good.replace("v1=", "v0="))),
        ("not JSON".to_owned(), Some(signature(WEBHOOK_SECRET, now, "not JSON"))),
        ("{}".to_owned(), Some(signature(WEBHOOK_SECRET, now, "{}"))),
    ] {
        let (status, answer) = shop.post(body, signature.as_deref()).await;
        assert_eq!(status, 400, "{answer}");
    }
    assert_eq!(shop.app.database.fingerprint().await, before, "nothing of it was kept");
    // Signed, but none of our business.
    let invoice = event("evt_2", "invoice.paid", 100, &json!({ "id": "in_1" }));
    assert_eq!(shop.deliver(&invoice).await.0, 200);
    let mut foreign = subscription("sub_9", "active", "price_pro");
    (foreign["customer"], foreign["metadata"]) = (json!("cus_9"), json!({}));
    let (status, answer) = shop.deliver(&updated("evt_3", 100, &foreign)).await;
    assert_eq!((status, answer.contains("foreign customer")), (200, true), "{answer}");
    assert_eq!(shop.stands().await.0, "free");
    // Where billing is manual there is no such door.
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
async fn a_counterpart_that_others_wrote_is_understood() {
    let Some(other) = Localstripe::start().await else {
        eprintln!("SKIPPED: python3 is missing");
        return;
    };
    let client = client_of(&other.base);
    let mut settings = AppSettings::default();
    settings.business.stripe = Some(client.clone());
    let app = App::with(settings).await;
    app.database
        .execute("UPDATE billing.plans SET stripe_price_id = 'price_pro' WHERE plan = 'pro'")
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
    let customer = client.create_customer(GLOBEX, "test").await.unwrap();
    let form = [
        ("customer", customer.as_str()),
        ("items[0][plan]", "price_pro"),
        ("metadata[organization_id]", GLOBEX),
    ];
    let subscription = other.post("v1/subscriptions", &form).await;
    let id = subscription["id"].as_str().unwrap();

    let owner = app.person("globex-owner");
    let reaches = async |plan: &str, status: &str| {
        let start = std::time::Instant::now();
        loop {
            let state = owner.data(STATE).await["organization"].clone();
            if state["plan"]["plan"] == plan && state["billing"]["status"] == status {
                return state;
            }
            assert!(start.elapsed() < HANG, "{state}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(reaches("pro", "ACTIVE").await["billing"]["plan"], "pro");
    let cancel = format!(
        "mutation {{ cancelSubscription(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ cancelAtPeriodEnd periodEnd }} }} }}"
    );
    let data = owner.query(&cancel).await.data();
    assert_eq!(data["cancelSubscription"]["billing"]["cancelAtPeriodEnd"], true);
    assert!(client.subscription(id).await.unwrap().cancels);
    other.delete(&format!("v1/subscriptions/{id}")).await;
    reaches("free", "CANCELED").await;
    let failed: i64 = app
        .database
        .value("SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NULL")
        .await;
    assert_eq!(failed, 0);
}
