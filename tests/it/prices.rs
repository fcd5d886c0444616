//! Prices: what an owner can buy, and that every known price leads to its plan.

use serde_json::{Value, json};

use crate::support::{
    App, Client,
    billing_app::{BillingApp, subscription, updated},
    database::Database,
    process::{Output, failed, run, succeeded, tenantry},
};

/// Runs `tenantry plan price`.
async fn price(database: &Database, arguments: &'static [&'static str]) -> Output {
    let admin = database.url("postgres");
    let command = move || {
        let mut command = tenantry();
        command.args(["plan", "price"]).args(arguments).env("MIGRATION_DATABASE_URL", admin);
        run(&mut command)
    };
    tokio::task::spawn_blocking(command).await.unwrap()
}

async fn checkout(owner: &Client, input: &str) -> crate::support::Reply {
    let mutation = format!(
        "mutation {{ createCheckoutSession(input: {{ {input} }}) {{ checkoutSession {{ id }} }} }}"
    );
    owner.query(&mutation).await
}

/// Returns the price and the quantity of the last checkout.
fn sold(billing: &BillingApp) -> (String, String) {
    let calls = billing.stripe.take_requests();
    let form = &calls.last().unwrap().form;
    (form["line_items[0][price]"].clone(), form["line_items[0][quantity]"].clone())
}

const PRICES: &str = "{ plans { key prices { id interval currency unitAmount perSeat } } }";

#[tokio::test]
async fn a_yearly_price_is_added_in_one_command_and_sold_beside_the_monthly_one() {
    let billing = BillingApp::start().await;
    let (database, owner) = (&billing.app.database, billing.owner());
    checkout(&owner, "plan: \"pro\", interval: YEAR").await.assert_failed("BAD_USER_INPUT");
    let yearly =
        ["pro", "price_year", "--interval", "year", "--amount", "19000", "--currency", "USD"];
    let output = price(database, Box::leak(Box::new(yearly))).await;
    assert!(succeeded(&output).contains("+ price pro price_year year 19000 usd"));
    let plans = owner.data(PRICES).await["plans"].clone();
    assert_eq!(plans[0]["prices"], json!([]));
    assert_eq!(
        plans[1]["prices"],
        json!([
            { "id": "price_pro", "interval": "MONTH", "currency": null, "unitAmount": null, "perSeat": false },
            { "id": "price_year", "interval": "YEAR", "currency": "usd", "unitAmount": 19_000, "perSeat": false },
        ])
    );
    for (input, expected) in [
        ("plan: \"pro\"", "price_pro"),
        ("plan: \"pro\", interval: MONTH", "price_pro"),
        ("plan: \"pro\", interval: YEAR", "price_year"),
        ("priceId: \"price_year\"", "price_year"),
    ] {
        checkout(&owner, input).await.data();
        assert_eq!(sold(&billing), (expected.to_owned(), "1".to_owned()), "{input}");
    }
    let before = database.fingerprint().await;
    for input in [
        "",
        "interval: YEAR",
        "plan: \"pro\", priceId: \"price_year\"",
        "priceId: \"price_year\", interval: MONTH",
        "priceId: \"price_unknown\"",
        "priceId: \"price\\u0000\"",
        "plan: \"enterprise\", interval: YEAR",
        "plan: \"pro\", seats: 3",
    ] {
        checkout(&owner, input).await.assert_failed("BAD_USER_INPUT");
    }
    assert_eq!(database.fingerprint().await, before);
    assert!(billing.stripe.take_requests().is_empty());
}

#[tokio::test]
async fn a_replaced_price_is_not_sold_and_its_subscriptions_keep_their_plan() {
    let billing = BillingApp::with_customer().await;
    let (database, owner) = (&billing.app.database, billing.owner());
    let old = |status: &str| subscription("sub_1", status, "price_pro");
    billing.deliver(&updated("evt_1", 100, &old("active"))).await;
    succeeded(&price(database, &["pro", "price_2027", "--interval", "month"]).await);
    // A renewal, a failed payment and a cancellation, all at the old price.
    let mut renewed = old("active");
    renewed["items"]["data"][0]["current_period_end"] = json!(1_905_000_000);
    assert_eq!(billing.deliver(&updated("evt_2", 200, &renewed)).await.1, "applied\n");
    let query = "{ organization { billing { periodEnd } } }";
    assert_eq!(
        owner.data(query).await["organization"]["billing"]["periodEnd"],
        "2030-05-14T14:40:00+00:00"
    );
    assert_eq!(billing.deliver(&updated("evt_3", 300, &old("past_due"))).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await.1, "PAST_DUE");
    let mut ending = old("active");
    ending["cancel_at_period_end"] = json!(true);
    assert_eq!(billing.deliver(&updated("evt_4", 400, &ending)).await.1, "applied\n");
    assert_eq!(billing.state().await["billing"]["cancelAtPeriodEnd"], true);
    assert_eq!(billing.effective_plan().await.0, "pro");
    // It is no longer for sale, neither by its id nor in the catalogue.
    let ended = subscription("sub_1", "canceled", "price_pro");
    billing.deliver(&updated("evt_5", 500, &ended)).await;
    checkout(&owner, "priceId: \"price_pro\"").await.assert_failed("BAD_USER_INPUT");
    checkout(&owner, "plan: \"pro\"").await.data();
    assert_eq!(sold(&billing).0, "price_2027");
    // Without any price the plan cannot be bought.
    succeeded(&price(database, &["pro", "price_2027", "--retire"]).await);
    checkout(&owner, "plan: \"pro\"").await.assert_failed("BAD_USER_INPUT");
    let plans = owner.data(PRICES).await["plans"].clone();
    assert_eq!(plans[1]["prices"], json!([]));
}

#[tokio::test]
async fn an_archived_plan_cannot_be_bought_at_its_prices() {
    let billing = BillingApp::start().await;
    let archive = "UPDATE billing.plans SET archived_at = now() WHERE plan = 'pro'";
    billing.app.database.execute(archive).await;
    for input in ["priceId: \"price_pro\"", "plan: \"pro\""] {
        checkout(&billing.owner(), input).await.assert_failed("BAD_USER_INPUT");
    }
    assert!(billing.stripe.take_requests().is_empty());
    checkout(&billing.owner(), "priceId: \"price_enterprise\"").await.data();
}

#[tokio::test]
async fn prices_in_two_currencies_are_chosen_by_their_id() {
    let billing = BillingApp::start().await;
    let (database, owner) = (&billing.app.database, billing.owner());
    for arguments in [
        &["enterprise", "price_usd", "--amount", "9900", "--currency", "usd", "--interval", "year"],
        &["enterprise", "price_eur", "--amount", "8900", "--currency", "eur", "--interval", "year"],
    ] {
        succeeded(&price(database, arguments).await);
    }
    let reply = checkout(&owner, "plan: \"enterprise\", interval: YEAR").await;
    reply.assert_failed("BAD_USER_INPUT");
    assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.priceId");
    checkout(&owner, "priceId: \"price_eur\"").await.data();
    assert_eq!(sold(&billing).0, "price_eur");
    // Not one of several, so it needs no interval.
    succeeded(&price(database, &["enterprise", "price_enterprise", "--retire"]).await);
    succeeded(&price(database, &["enterprise", "price_usd", "--retire"]).await);
    checkout(&owner, "plan: \"enterprise\"").await.data();
    assert_eq!(sold(&billing).0, "price_eur");
}

#[tokio::test]
async fn a_price_belongs_to_one_plan_and_a_mistaken_command_changes_nothing() {
    let app = App::start().await;
    let database = &app.database;
    succeeded(&price(database, &["pro", "price_1"]).await);
    // A repetition changes nothing.
    let before = database.fingerprint().await;
    for (arguments, reason) in [
        (&["enterprise", "price_1"][..], "price_1 is a price of the plan pro"),
        (&["gold", "price_2"], "there is no plan gold"),
        (&["pro", "prod_2"], "must be Stripe's id of a price"),
        (&["pro", "price_2", "--amount=-1", "--currency", "usd"], "--amount"),
        (&["pro", "price_2", "--amount", "100"], "--currency"),
        (&["pro", "price_2", "--currency", "dollars"], "must be three letters"),
        (&["pro", "price_2", "--interval", "week"], "--interval"),
    ] {
        failed(&price(database, arguments).await, reason);
    }
    assert_eq!(database.fingerprint().await, before);
    let output = price(database, &["enterprise", "price_1", "--move"]).await;
    assert!(succeeded(&output).contains("+ price enterprise price_1 month"), "{}", output.stdout);
}

#[tokio::test]
async fn a_price_of_existing_subscriptions_is_added_without_being_sold() {
    let billing = BillingApp::with_customer().await;
    let database = &billing.app.database;
    let legacy =
        ["pro", "price_old", "--retire", "--per-seat", "--amount", "700", "--currency", "usd"];
    let output = price(database, Box::leak(Box::new(legacy))).await;
    assert!(succeeded(&output).contains("month 700 usd per seat retired"), "{}", output.stdout);
    checkout(&billing.owner(), "priceId: \"price_old\"").await.assert_failed("BAD_USER_INPUT");
    let old = subscription("sub_1", "active", "price_old");
    assert_eq!(billing.deliver(&updated("evt_1", 100, &old)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await.0, "pro");
    // What is not given stays.
    let output =
        price(database, &["pro", "price_old", "--amount", "800", "--currency", "usd"]).await;
    assert!(
        succeeded(&output).contains("+ price pro price_old month 800 usd per seat\n"),
        "{}",
        output.stdout
    );
}

#[tokio::test]
async fn an_unknown_price_changes_everything_but_the_plan() {
    let billing = BillingApp::with_customer().await;
    let known = subscription("sub_1", "active", "price_pro");
    billing.deliver(&updated("evt_1", 100, &known)).await;
    let only_price = subscription("sub_1", "active", "price_other");
    billing.deliver(&updated("evt_other", 150, &only_price)).await;
    assert_eq!(billing.audit_entries().await[1]["metadata"]["unknown_price"], "price_other");
    let mut unknown = subscription("sub_1", "past_due", "price_of_nothing");
    unknown["cancel_at_period_end"] = json!(true);
    let (status, response) = billing.deliver(&updated("evt_2", 200, &unknown)).await;
    assert_eq!((status, response.contains("price_of_nothing")), (200, true), "{response}");
    assert!(billing.error_of("evt_2").await.unwrap().contains("price_of_nothing"));
    let state = billing.state().await;
    assert_eq!(
        (&state["billing"]["plan"]["key"], &state["billing"]["status"]),
        (&json!("pro"), &json!("PAST_DUE"))
    );
    assert_eq!(state["billing"]["cancelAtPeriodEnd"], true);
    let entry = billing.audit_entries().await.pop().unwrap();
    assert_eq!(entry["action"], "billing.subscription_updated");
    assert_eq!(entry["metadata"]["unknown_price"], "price_of_nothing");
    // Beside a known price it is an addition.
    let mut several = subscription("sub_1", "active", "price_of_nothing");
    let items = several["items"]["data"].as_array_mut().unwrap();
    items.push(json!({ "id": "si_2", "price": { "id": "price_enterprise" }, "quantity": 1 }));
    items.push(json!({ "id": "si_3", "price": { "id": "price_pro" }, "quantity": 1 }));
    assert_eq!(billing.deliver(&updated("evt_3", 300, &several)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
}

#[tokio::test]
async fn a_first_subscription_at_an_unknown_price_is_reported_if_it_was_meant_for_the_organization()
{
    let billing = BillingApp::with_customer().await;
    let unknown = subscription("sub_1", "active", "price_new");
    let (status, response) = billing.deliver(&updated("evt_1", 100, &unknown)).await;
    assert_eq!((status, response.contains("needs an operator")), (200, true), "{response}");
    assert!(billing.error_of("evt_1").await.unwrap().contains("price_new"));
    let state: Value = billing.state().await;
    assert_eq!(
        (&state["billing"]["status"], &state["plan"]["key"]),
        (&json!("ACTIVE"), &json!("free"))
    );
    assert_eq!(billing.audit_entries().await[0]["action"], "billing.subscription_ignored");
}
