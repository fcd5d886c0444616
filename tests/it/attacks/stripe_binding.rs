//! Events and pages of Stripe reach an organization only through a customer that tenantry created
//! for it, regardless of what a payer writes into a payment link or a subscription.

use serde_json::{Value, json};

use crate::support::{
    billing_app::{BillingApp, CHECKOUT, PORTAL, event, subscription, updated},
    placement::{ACME, GLOBEX},
};

/// A paid payment link with a reference that the payer chose.
fn paid_payment_link(id: &str, reference: &str) -> Value {
    let session = json!({
        "id": "cs_link", "mode": "subscription", "payment_link": "plink_1", "metadata": {},
        "client_reference_id": reference, "customer": "cus_attacker", "subscription": "sub_attacker",
    });
    event(id, "checkout.session.completed", 100, &session)
}

/// A subscription of the attacker, whose metadata names an organization.
fn attacker_subscription(status: &str, organization: &str) -> Value {
    let mut subscription = subscription("sub_attacker", status, "price_pro");
    subscription["customer"] = json!("cus_attacker");
    subscription["metadata"] = json!({ "organization_id": organization });
    subscription
}

/// Asserts that the event was accepted but not applied, and that the reason is stored.
async fn assert_ignored(billing: &BillingApp, event: &Value) {
    let (status, response) = billing.deliver(event).await;
    assert_eq!((status, response.contains("foreign customer")), (200, true), "{response}");
    let kept = billing.error_of(event["id"].as_str().unwrap()).await;
    assert!(kept.is_some_and(|reason| reason.contains("foreign customer")), "{event}");
    let waiting = "SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NULL";
    assert_eq!(billing.app.database.value::<i64>(waiting).await, 0);
}

async fn customer(billing: &BillingApp) -> Option<String> {
    let sql = format!(
        "SELECT stripe_customer_id FROM billing.organization_billing WHERE organization_id = '{GLOBEX}'"
    );
    billing.app.database.value(&sql).await
}

/// Stores a customer as an earlier version or a restored backup may have done.
async fn store_customer(billing: &BillingApp, customer: &str) {
    let sql = format!(
        "UPDATE billing.organization_billing SET stripe_customer_id = '{customer}' WHERE organization_id = '{GLOBEX}'"
    );
    billing.app.database.execute(&sql).await;
}

#[tokio::test]
async fn the_reference_of_a_payment_link_assigns_nothing() {
    let billing = BillingApp::start().await;
    billing.stripe.add_customer("cus_attacker", None);
    billing.stripe.set_subscription(&attacker_subscription("active", GLOBEX));
    assert_ignored(&billing, &paid_payment_link("evt_1", GLOBEX)).await;
    assert!(billing.stripe.take_requests().is_empty(), "Stripe is not queried for it");
    assert_eq!(
        (billing.effective_plan().await.0, customer(&billing).await),
        ("free".to_owned(), None)
    );
    billing.owner().query(PORTAL).await.assert_failed("CONFLICT");
    assert!(billing.stripe.take_requests().is_empty(), "no page was opened");
}

#[tokio::test]
async fn the_metadata_of_a_subscription_alone_assigns_nothing() {
    let billing = BillingApp::start().await;
    for owner in [None, Some(ACME)] {
        billing.stripe.add_customer("cus_attacker", owner);
        let id = format!("evt_{}", owner.is_some());
        assert_ignored(&billing, &updated(&id, 100, &attacker_subscription("active", GLOBEX)))
            .await;
    }
    billing.stripe.add_customer("cus_attacker", None);
    for nothing in ["", "globex", "00000000-0000-4000-8000-0000000000ff"] {
        let id = format!("evt_{nothing}");
        assert_ignored(&billing, &updated(&id, 100, &attacker_subscription("active", nothing)))
            .await;
    }
    // Stripe no longer has this customer.
    let mut gone = attacker_subscription("active", GLOBEX);
    gone["customer"] = json!("cus_gone");
    assert_ignored(&billing, &updated("evt_gone", 100, &gone)).await;
    assert_eq!(
        (billing.effective_plan().await.0, customer(&billing).await),
        ("free".to_owned(), None)
    );
}

#[tokio::test]
async fn a_second_customer_neither_takes_over_nor_ends_a_subscription() {
    let billing = BillingApp::with_customer().await;
    let ours = subscription("sub_1", "active", "price_pro");
    assert_eq!(billing.deliver(&updated("evt_1", 100, &ours)).await.1, "applied\n");
    let before = (billing.effective_plan().await, billing.audit_entries().await);
    // This includes a customer whose metadata names the organization.
    for owner in [None, Some(GLOBEX)] {
        billing.stripe.add_customer("cus_attacker", owner);
        for (number, status) in ["active", "canceled"].into_iter().enumerate() {
            let id = format!("evt_{status}_{}", owner.is_some());
            let at = 200 + i64::try_from(number).unwrap();
            assert_ignored(&billing, &updated(&id, at, &attacker_subscription(status, GLOBEX)))
                .await;
        }
        assert_ignored(
            &billing,
            &paid_payment_link(&format!("evt_link_{}", owner.is_some()), GLOBEX),
        )
        .await;
    }
    // An event is also ignored when Stripe reports another customer for its subscription.
    let mut theirs = attacker_subscription("active", GLOBEX);
    theirs["id"] = json!("sub_1");
    billing.stripe.set_subscription(&theirs);
    assert_ignored(&billing, &updated("evt_same_second", 100, &ours)).await;
    assert_eq!((billing.effective_plan().await, billing.audit_entries().await), before);
    assert_eq!(customer(&billing).await.as_deref(), Some("cus_1"));
}

#[tokio::test]
async fn an_unreadable_event_of_a_foreign_customer_is_not_retried() {
    let billing = BillingApp::start().await;
    let mut unusual = attacker_subscription("on_fire", GLOBEX);
    assert_ignored(&billing, &updated("evt_1", 100, &unusual)).await;
    unusual["customer"] = Value::Null;
    assert_eq!(billing.deliver(&updated("evt_2", 100, &unusual)).await.0, 200);
    // For a customer of an organization, an operator has to act.
    billing.stripe.add_customer("cus_1", Some(GLOBEX));
    let unusual = subscription("sub_1", "on_fire", "price_pro");
    let (status, response) = billing.deliver(&updated("evt_3", 100, &unusual)).await;
    assert_eq!((status, response.contains("needs an operator")), (200, true), "{response}");
}

#[tokio::test]
async fn the_portal_opens_only_for_a_customer_of_the_organization() {
    for owner in [None, Some(ACME)] {
        let billing = BillingApp::start().await;
        billing.stripe.add_customer("cus_attacker", owner);
        store_customer(&billing, "cus_attacker").await;
        billing.owner().query(PORTAL).await.assert_failed("CONFLICT");
        let paths: Vec<_> =
            billing.stripe.take_requests().into_iter().map(|calls| calls.path).collect();
        assert_eq!(paths, ["customers/cus_attacker"], "no page was opened");
        // A checkout creates a customer for the organization instead of using that one.
        billing.owner().query(CHECKOUT).await.data();
        let calls = billing.stripe.take_requests();
        let paths: Vec<_> = calls.iter().map(|calls| calls.path.as_str()).collect();
        assert_eq!(paths, ["customers/cus_attacker", "customers", "checkout/sessions"]);
        assert_eq!(calls[2].form["customer"], "cus_2");
        assert_eq!(customer(&billing).await.as_deref(), Some("cus_2"));
        billing.owner().query(PORTAL).await.data();
        // Events of the other customer no longer reach the organization.
        assert_ignored(&billing, &updated("evt_1", 100, &attacker_subscription("active", GLOBEX)))
            .await;
    }
}

#[tokio::test]
async fn a_customer_is_stored_before_its_checkout_and_survives_its_failure() {
    let billing = BillingApp::start().await;
    for status in [400, 503] {
        billing.stripe.fail_path("checkout", status);
        assert!(!billing.owner().query(CHECKOUT).await.codes().is_empty());
        assert_eq!(customer(&billing).await.as_deref(), Some("cus_1"));
    }
    billing.stripe.set_failure(None);
    billing.stripe.take_requests();
    billing.owner().query(CHECKOUT).await.data();
    let calls = billing.stripe.take_requests();
    let paths: Vec<_> = calls.iter().map(|calls| calls.path.as_str()).collect();
    assert_eq!(paths, ["customers/cus_1", "checkout/sessions"]);
    assert_eq!(calls[1].form["customer"], "cus_1");
    // The event needs neither a reference nor metadata.
    let mut paid = subscription("sub_1", "active", "price_pro");
    paid["metadata"] = json!({});
    assert_eq!(billing.deliver(&updated("evt_1", 100, &paid)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    assert!(billing.stripe.take_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_checkouts_share_one_customer() {
    let billing = BillingApp::start().await;
    let owner = billing.owner();
    let replies = futures_util::future::join_all((0..4).map(|_| owner.query(CHECKOUT))).await;
    assert!(replies.iter().all(|reply| reply.codes().is_empty()), "{replies:?}");
    let calls = billing.stripe.take_requests();
    let sold: std::collections::BTreeSet<_> =
        calls.iter().filter_map(|calls| calls.form.get("customer")).collect();
    assert_eq!(sold.into_iter().collect::<Vec<_>>(), ["cus_1"]);
}
