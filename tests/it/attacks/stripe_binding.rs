//! Stripe's events and pages reach an organization only through a customer that tenantry created
//! for it, whatever a payer writes into a payment link or a subscription.

use serde_json::{Value, json};

use crate::support::{
    placement::{ACME, GLOBEX},
    shop::{CHECKOUT, PORTAL, Shop, event, subscription, updated},
};

/// A payment link was paid, with a reference of the payer's choice.
fn paid_link(id: &str, reference: &str) -> Value {
    let session = json!({
        "id": "cs_link", "mode": "subscription", "payment_link": "plink_1", "metadata": {},
        "client_reference_id": reference, "customer": "cus_attacker", "subscription": "sub_attacker",
    });
    event(id, "checkout.session.completed", 100, &session)
}

/// A subscription of the attacker, whose metadata names an organization.
fn attackers(status: &str, organization: &str) -> Value {
    let mut subscription = subscription("sub_attacker", status, "price_pro");
    subscription["customer"] = json!("cus_attacker");
    subscription["metadata"] = json!({ "organization_id": organization });
    subscription
}

/// Nothing was applied, Stripe is content, and the reason is kept.
async fn is_foreign(shop: &Shop, event: &Value) {
    let (status, answer) = shop.deliver(event).await;
    assert_eq!((status, answer.contains("foreign customer")), (200, true), "{answer}");
    let kept = shop.error_of(event["id"].as_str().unwrap()).await;
    assert!(kept.is_some_and(|reason| reason.contains("foreign customer")), "{event}");
    let waiting = "SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NULL";
    assert_eq!(shop.app.database.value::<i64>(waiting).await, 0);
}

async fn customer(shop: &Shop) -> Option<String> {
    let sql = format!(
        "SELECT stripe_customer_id FROM billing.organization_billing WHERE organization_id = '{GLOBEX}'"
    );
    shop.app.database.value(&sql).await
}

/// As an earlier version may have left it, or a restored backup.
async fn store_customer(shop: &Shop, customer: &str) {
    let sql = format!(
        "UPDATE billing.organization_billing SET stripe_customer_id = '{customer}' WHERE organization_id = '{GLOBEX}'"
    );
    shop.app.database.execute(&sql).await;
}

#[tokio::test]
async fn the_reference_of_a_payment_link_binds_nothing() {
    let shop = Shop::open().await;
    shop.stripe.knows_customer("cus_attacker", None);
    shop.stripe.knows(&attackers("active", GLOBEX));
    is_foreign(&shop, &paid_link("evt_1", GLOBEX)).await;
    assert!(shop.stripe.asked().is_empty(), "Stripe need not be asked about it");
    assert_eq!((shop.stands().await.0, customer(&shop).await), ("free".to_owned(), None));
    shop.owner().query(PORTAL).await.assert_failed("CONFLICT");
    assert!(shop.stripe.asked().is_empty(), "no page was opened");
}

#[tokio::test]
async fn the_metadata_of_a_subscription_binds_nothing_by_itself() {
    let shop = Shop::open().await;
    for owner in [None, Some(ACME)] {
        shop.stripe.knows_customer("cus_attacker", owner);
        let id = format!("evt_{}", owner.is_some());
        is_foreign(&shop, &updated(&id, 100, &attackers("active", GLOBEX))).await;
    }
    shop.stripe.knows_customer("cus_attacker", None);
    for nothing in ["", "globex", "00000000-0000-4000-8000-0000000000ff"] {
        let id = format!("evt_{nothing}");
        is_foreign(&shop, &updated(&id, 100, &attackers("active", nothing))).await;
    }
    // A customer that Stripe no longer has.
    let mut gone = attackers("active", GLOBEX);
    gone["customer"] = json!("cus_gone");
    is_foreign(&shop, &updated("evt_gone", 100, &gone)).await;
    assert_eq!((shop.stands().await.0, customer(&shop).await), ("free".to_owned(), None));
}

#[tokio::test]
async fn a_second_customer_neither_takes_over_nor_ends_a_subscription() {
    let shop = Shop::with_customer().await;
    let ours = subscription("sub_1", "active", "price_pro");
    assert_eq!(shop.deliver(&updated("evt_1", 100, &ours)).await.1, "applied\n");
    let before = (shop.stands().await, shop.story().await);
    // Even one whose metadata names the organization.
    for owner in [None, Some(GLOBEX)] {
        shop.stripe.knows_customer("cus_attacker", owner);
        for (number, status) in ["active", "canceled"].into_iter().enumerate() {
            let id = format!("evt_{status}_{}", owner.is_some());
            let at = 200 + i64::try_from(number).unwrap();
            is_foreign(&shop, &updated(&id, at, &attackers(status, GLOBEX))).await;
        }
        is_foreign(&shop, &paid_link(&format!("evt_link_{}", owner.is_some()), GLOBEX)).await;
    }
    // Nor does an event about a subscription that Stripe says has another customer.
    let mut theirs = attackers("active", GLOBEX);
    theirs["id"] = json!("sub_1");
    shop.stripe.knows(&theirs);
    is_foreign(&shop, &updated("evt_same_second", 100, &ours)).await;
    assert_eq!((shop.stands().await, shop.story().await), before);
    assert_eq!(customer(&shop).await.as_deref(), Some("cus_1"));
}

#[tokio::test]
async fn an_unreadable_event_of_a_stranger_is_not_repeated() {
    let shop = Shop::open().await;
    let mut odd = attackers("on_fire", GLOBEX);
    is_foreign(&shop, &updated("evt_1", 100, &odd)).await;
    odd["customer"] = Value::Null;
    assert_eq!(shop.deliver(&updated("evt_2", 100, &odd)).await.0, 200);
    // Of a customer of ours it may be readable to a newer server.
    shop.stripe.knows_customer("cus_1", Some(GLOBEX));
    let odd = subscription("sub_1", "on_fire", "price_pro");
    assert_eq!(shop.deliver(&updated("evt_3", 100, &odd)).await.0, 500);
}

#[tokio::test]
async fn the_portal_opens_only_for_a_customer_of_the_organization() {
    for owner in [None, Some(ACME)] {
        let shop = Shop::open().await;
        shop.stripe.knows_customer("cus_attacker", owner);
        store_customer(&shop, "cus_attacker").await;
        shop.owner().query(PORTAL).await.assert_failed("CONFLICT");
        let paths: Vec<_> = shop.stripe.asked().into_iter().map(|asked| asked.path).collect();
        assert_eq!(paths, ["customers/cus_attacker"], "no page was opened");
        // Nor is anything sold to it: a checkout begins with a customer of the organization.
        shop.owner().query(CHECKOUT).await.data();
        let asked = shop.stripe.asked();
        let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
        assert_eq!(paths, ["customers/cus_attacker", "customers", "checkout/sessions"]);
        assert_eq!(asked[2].form["customer"], "cus_2");
        assert_eq!(customer(&shop).await.as_deref(), Some("cus_2"));
        shop.owner().query(PORTAL).await.data();
        // What the other customer does no longer reaches the organization.
        is_foreign(&shop, &updated("evt_1", 100, &attackers("active", GLOBEX))).await;
    }
}

#[tokio::test]
async fn a_customer_is_stored_before_its_checkout_and_survives_its_failure() {
    let shop = Shop::open().await;
    for status in [400, 503] {
        shop.stripe.fails_at("checkout", status);
        assert!(!shop.owner().query(CHECKOUT).await.codes().is_empty());
        assert_eq!(customer(&shop).await.as_deref(), Some("cus_1"));
    }
    shop.stripe.fails_with(None);
    shop.stripe.asked();
    shop.owner().query(CHECKOUT).await.data();
    let asked = shop.stripe.asked();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths, ["customers/cus_1", "checkout/sessions"]);
    assert_eq!(asked[1].form["customer"], "cus_1");
    // The event needs neither a reference nor metadata.
    let mut paid = subscription("sub_1", "active", "price_pro");
    paid["metadata"] = json!({});
    assert_eq!(shop.deliver(&updated("evt_1", 100, &paid)).await.1, "applied\n");
    assert_eq!(shop.stands().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    assert!(shop.stripe.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkouts_at_the_same_time_have_one_customer() {
    let shop = Shop::open().await;
    let owner = shop.owner();
    let replies = futures_util::future::join_all((0..4).map(|_| owner.query(CHECKOUT))).await;
    assert!(replies.iter().all(|reply| reply.codes().is_empty()), "{replies:?}");
    let asked = shop.stripe.asked();
    let sold: std::collections::BTreeSet<_> =
        asked.iter().filter_map(|asked| asked.form.get("customer")).collect();
    assert_eq!(sold.into_iter().collect::<Vec<_>>(), ["cus_1"]);
}
