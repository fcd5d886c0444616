//! Seats: the quantity of a per-seat subscription follows the team, or limits it.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::seats::SeatsMode;

use crate::support::{
    AppSettings, HANG, Reply,
    billing_app::{BillingApp, event, subscription, updated},
    placement::GLOBEX,
    process::{failed, run, succeeded, tenantry},
};

const SEATS: &str = "{ organization { billing { seats } } }";

/// Globex, which has four members, may buy Pro for each seat.
async fn start(mode: SeatsMode) -> BillingApp {
    let mut settings = AppSettings { max_connections: 8, ..AppSettings::default() };
    settings.areas.seats.mode = Some(mode);
    let billing = BillingApp::with(settings).await;
    let price = "INSERT INTO billing.plan_prices (stripe_price_id, plan, interval, per_seat)
        VALUES ('price_seat', 'pro', 'year', true)";
    billing.app.database.execute(price).await;
    billing
}

fn seats(quantity: u32) -> Value {
    let mut subscription = subscription("sub_1", "active", "price_seat");
    let item = &mut subscription["items"]["data"][0];
    (item["id"], item["quantity"]) = (json!("si_1"), json!(quantity));
    subscription
}

async fn subscribed(mode: SeatsMode, quantity: u32) -> BillingApp {
    let billing = start(mode).await;
    billing.stripe.add_customer("cus_1", Some(GLOBEX));
    billing.stripe.set_subscription(&seats(quantity));
    assert_eq!(billing.deliver(&updated("evt_1", 100, &seats(quantity))).await.1, "applied\n");
    billing
}

async fn invite(billing: &BillingApp, name: &str) -> Reply {
    let mutation = format!(
        "mutation {{ inviteMember(input: {{ email: \"{name}@example.com\", role: MEMBER }}) {{ invitation {{ id }} }} }}"
    );
    billing.owner().query(&mutation).await
}

/// Waits until Stripe and the organization's billing have this quantity.
async fn reaches(billing: &BillingApp, quantity: u32) {
    let start = std::time::Instant::now();
    loop {
        let there = billing.stripe.subscription("sub_1")["items"]["data"][0]["quantity"].clone();
        let here = billing.owner().data(SEATS).await["organization"]["billing"]["seats"].clone();
        if (&there, &here) == (&json!(quantity), &json!(quantity)) {
            return;
        }
        assert!(start.elapsed() < HANG, "{there} at Stripe, {here} here, {quantity} expected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes the waiting changes due.
async fn hurry(billing: &BillingApp) {
    let hurry = "UPDATE app.outbox SET due_at = now()
        WHERE kind = 'stripe_seats' AND processed_at IS NULL AND due_at > now()";
    billing.app.database.execute(hurry).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seats_follow_members_and_open_invitations() {
    let billing = start(SeatsMode::Sync).await;
    let checkout = |input: &str| {
        format!(
            "mutation {{ createCheckoutSession(input: {{ {input} }}) {{ checkoutSession {{ id }} }} }}"
        )
    };
    let owner = billing.owner();
    owner
        .query(&checkout("priceId: \"price_seat\", seats: 9"))
        .await
        .assert_failed("BAD_USER_INPUT");
    owner.query(&checkout("priceId: \"price_seat\"")).await.data();
    let calls = billing.stripe.take_requests();
    assert_eq!(calls.last().unwrap().form["line_items[0][quantity]"], "4");
    // The team grew before the payment.
    billing.stripe.set_subscription(&seats(3));
    billing.deliver(&updated("evt_1", 100, &seats(3))).await;
    reaches(&billing, 4).await;
    let data = invite(&billing, "guest").await.data();
    reaches(&billing, 5).await;
    let calls = billing.stripe.take_requests();
    let change = calls.iter().rfind(|call| !call.form.is_empty()).unwrap();
    assert_eq!(change.form["proration_behavior"], "create_prorations");
    let id = data["inviteMember"]["invitation"]["id"].as_str().unwrap();
    let revoke = format!(
        "mutation {{ revokeInvitation(input: {{ id: \"{id}\" }}) {{ invitation {{ id }} }} }}"
    );
    owner.query(&revoke).await.data();
    reaches(&billing, 4).await;
    let leave = format!(
        "mutation {{ leaveOrganization(input: {{ organizationId: \"{GLOBEX}\" }}) {{ member {{ role }} }} }}"
    );
    billing.app.user("globex-viewer").query(&leave).await.data();
    reaches(&billing, 3).await;
    let entries = billing.audit_entries().await;
    let changes: Vec<_> = entries
        .iter()
        .filter(|entry| entry["action"] == "billing.seats_changed")
        .map(|entry| {
            (
                entry["metadata"]["old_seats"].as_i64().unwrap(),
                entry["metadata"]["seats"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(changes, [(3, 4), (4, 5), (5, 4), (4, 3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_invitation_frees_its_seat() {
    // The invitation is older than the subscription.
    let billing = start(SeatsMode::Sync).await;
    billing.stripe.add_customer("cus_1", Some(GLOBEX));
    billing.app.database.execute("UPDATE billing.organization_billing SET plan = 'pro'").await;
    invite(&billing, "guest").await.data();
    billing.stripe.set_subscription(&seats(4));
    billing.deliver(&updated("evt_1", 100, &seats(4))).await;
    reaches(&billing, 5).await;
    billing.app.database.execute("UPDATE auth.invitations SET expires_at = now()").await;
    hurry(&billing).await;
    reaches(&billing, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stripe_did_not_make_is_repeated() {
    let billing = subscribed(SeatsMode::Sync, 4).await;
    billing.stripe.fail_posts("subscriptions", 500);
    invite(&billing, "guest").await.data();
    let failed =
        "SELECT count(*) FROM app.outbox WHERE kind = 'stripe_seats' AND error LIKE '%500%'";
    let start = std::time::Instant::now();
    while billing.app.database.value::<i64>(failed).await == 0 {
        assert!(start.elapsed() < HANG);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(billing.owner().data(SEATS).await["organization"]["billing"]["seats"], 4);
    let metrics = reqwest::get(format!("{}/metrics", billing.app.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(!metrics.contains("tenantry_backlog{queue=\"stripe_seats\"} 0"), "{metrics}");
    // Stripe reports more than the seats.
    let mut unpaid = seats(4);
    unpaid["status"] = json!("past_due");
    billing.stripe.set_subscription(&unpaid);
    billing.stripe.set_failure(None);
    hurry(&billing).await;
    reaches(&billing, 5).await;
    let entries = billing.audit_entries().await;
    assert!(entries.iter().any(|entry| entry["metadata"]["status"] == "past_due"), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_changes_end_with_the_size_of_the_team() {
    let billing = subscribed(SeatsMode::Sync, 4).await;
    let names: Vec<_> = (0..5).map(|n| format!("guest-{n}")).collect();
    let replies = futures_util::future::join_all(names.iter().map(|name| invite(&billing, name)));
    assert!(replies.await.iter().all(|reply| reply.codes().is_empty()));
    reaches(&billing, 9).await;
    // A user changes the quantity in Stripe's portal.
    billing.stripe.set_subscription(&seats(2));
    billing.deliver(&updated("evt_2", 4_000_000_000, &seats(2))).await;
    reaches(&billing, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_subscription_ends_the_seats() {
    let billing = subscribed(SeatsMode::Sync, 4).await;
    let mut ended = seats(4);
    ended["status"] = json!("canceled");
    billing.stripe.set_subscription(&ended);
    billing.deliver(&event("evt_2", "customer.subscription.deleted", 200, &ended)).await;
    assert_eq!(billing.owner().data(SEATS).await["organization"]["billing"]["seats"], json!(null));
    let changes = "SELECT count(*) FROM app.outbox WHERE kind = 'stripe_seats'";
    let before: i64 = billing.app.database.value(changes).await;
    let leave = format!(
        "mutation {{ leaveOrganization(input: {{ organizationId: \"{GLOBEX}\" }}) {{ member {{ role }} }} }}"
    );
    billing.app.user("globex-viewer").query(&leave).await.data();
    assert_eq!(billing.app.database.value::<i64>(changes).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bought_seats_are_a_limit_that_holds_under_concurrency() {
    let billing = start(SeatsMode::Cap).await;
    let owner = billing.owner();
    let checkout = |seats: &str| {
        format!(
            "mutation {{ createCheckoutSession(input: {{ priceId: \"price_seat\" {seats} }}) {{ checkoutSession {{ id }} }} }}"
        )
    };
    for (seats, quantity) in [("", "4"), ("seats: 4", "4"), ("seats: 6", "6")] {
        owner.query(&checkout(seats)).await.data();
        let calls = billing.stripe.take_requests();
        assert_eq!(calls.last().unwrap().form["line_items[0][quantity]"], quantity);
    }
    for seats in ["seats: 3", "seats: 0", "seats: -1", "seats: 1000000"] {
        owner.query(&checkout(seats)).await.assert_failed("BAD_USER_INPUT");
    }
    billing.deliver(&updated("evt_1", 100, &seats(6))).await;
    billing.stripe.take_requests();
    let names: Vec<_> = (0..6).map(|n| format!("guest-{n}")).collect();
    let replies =
        futures_util::future::join_all(names.iter().map(|name| invite(&billing, name))).await;
    let (invited, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.codes().is_empty());
    assert_eq!(invited.len(), 2);
    for reply in refused {
        reply.assert_failed("PLAN_LIMIT_EXCEEDED");
        assert_eq!(reply.body["errors"][0]["extensions"]["limit"], 6);
    }
    billing.deliver(&updated("evt_2", 200, &seats(7))).await;
    invite(&billing, "one").await.data();
    invite(&billing, "two").await.assert_failed("PLAN_LIMIT_EXCEEDED");
    // Clients see the same limit: the lower of the plan's and of the bought seats.
    let database = &billing.app.database;
    for (bought, of_plan, limit, remaining) in [
        (7, "10", json!(7), json!(0)),
        (9, "10", json!(9), json!(2)),
        (5, "10", json!(5), json!(0)),
        (12, "10", json!(10), json!(3)),
        (12, "NULL", json!(12), json!(5)),
    ] {
        let plan = format!(
            "UPDATE billing.plan_features SET limit_value = {of_plan} WHERE (plan, feature) = ('pro', 'team_members')"
        );
        database.execute(&plan).await;
        let bought = format!(
            "UPDATE billing.organization_billing SET seats = {bought} WHERE seats IS NOT NULL"
        );
        database.execute(&bought).await;
        let query = "{ organization { entitlement(feature: \"team_members\") { limit used remaining overLimit } } }";
        let seen = owner.data(query).await["organization"]["entitlement"].clone();
        let is_over = limit == json!(5);
        let expected =
            json!({ "limit": limit, "used": 7, "remaining": remaining, "overLimit": is_over });
        assert_eq!(seen, expected);
    }
    // A change that waited while the operator switched to this mode.
    let change = format!(
        "INSERT INTO app.outbox (organization_id, kind, payload, due_at) VALUES ('{GLOBEX}', 'stripe_seats', '{{}}', now())"
    );
    billing.app.database.execute(&change).await;
    let waiting =
        "SELECT count(*) FROM app.outbox WHERE kind = 'stripe_seats' AND processed_at IS NULL";
    let start = std::time::Instant::now();
    while billing.app.database.value::<i64>(waiting).await > 0 {
        assert!(start.elapsed() < HANG);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(billing.stripe.take_requests().is_empty(), "the quantity belongs to the owners");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seats_of_the_plan_follow_the_team_beside_an_addition_per_seat() {
    let billing = start(SeatsMode::Sync).await;
    billing.stripe.add_customer("cus_1", Some(GLOBEX));
    let price = "INSERT INTO billing.plan_prices (stripe_price_id, plan, interval, per_seat)
        VALUES ('price_large', 'enterprise', 'month', true)";
    billing.app.database.execute(price).await;
    let mut both = seats(2);
    let mut large = both["items"]["data"][0].clone();
    large["id"] = json!("si_2");
    large["price"]["id"] = json!("price_large");
    large["quantity"] = json!(4);
    both["items"]["data"].as_array_mut().unwrap().push(large);
    billing.stripe.set_subscription(&both);
    assert_eq!(billing.deliver(&updated("evt_1", 100, &both)).await.1, "applied\n");
    invite(&billing, "guest").await.data();
    let start = std::time::Instant::now();
    while billing.owner().data(SEATS).await["organization"]["billing"]["seats"] != 5 {
        assert!(start.elapsed() < HANG, "{}", billing.stripe.subscription("sub_1"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let items = billing.stripe.subscription("sub_1")["items"]["data"].clone();
    assert_eq!((&items[0]["quantity"], &items[1]["quantity"]), (&json!(2), &json!(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bought_seats_are_no_limit_without_their_plan_or_beside_an_exception() {
    let billing = subscribed(SeatsMode::Cap, 2).await;
    let query = "{ organization { entitlement(feature: \"team_members\") { limit source } } }";
    let seen = async || {
        let seen = billing.owner().data(query).await["organization"]["entitlement"].clone();
        (seen["limit"].as_i64().unwrap(), seen["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(seen().await, (2, "PLAN".to_owned()));
    let mut unpaid = seats(2);
    unpaid["status"] = json!("unpaid");
    billing.deliver(&updated("evt_2", 200, &unpaid)).await;
    assert_eq!(seen().await, (1, "PLAN".to_owned()), "that of the default plan");
    billing.deliver(&updated("evt_3", 300, &seats(2))).await;
    let exception = format!(
        "INSERT INTO billing.organization_features (organization_id, feature, limit_value)
         VALUES ('{GLOBEX}', 'team_members', 5)"
    );
    billing.app.database.execute(&exception).await;
    assert_eq!(seen().await, (5, "OVERRIDE".to_owned()));
    invite(&billing, "guest").await.data();
    invite(&billing, "another").await.assert_failed("PLAN_LIMIT_EXCEEDED");
}

/// Waits until so many changes that Stripe refuses have been given up, and returns their number.
async fn given_up(billing: &BillingApp, changes: i64) -> i64 {
    let given_up = "SELECT count(*) FROM app.outbox
        WHERE kind = 'stripe_seats' AND processed_at IS NOT NULL AND error LIKE '%400%' AND attempts = 3
            AND NOT EXISTS (SELECT FROM app.outbox WHERE kind = 'stripe_seats'
                AND processed_at IS NULL AND (attempts > 0 OR due_at <= now()))";
    // Not the change that waits for the end of the invitation.
    let hurry = "UPDATE app.outbox SET due_at = now()
        WHERE kind = 'stripe_seats' AND processed_at IS NULL AND attempts > 0 AND due_at > now()";
    let start = std::time::Instant::now();
    loop {
        let count = billing.app.database.value::<i64>(given_up).await;
        if count >= changes {
            return count;
        }
        assert!(start.elapsed() < HANG);
        billing.app.database.execute(hurry).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stripe_does_not_allow_is_given_up_and_the_next_one_is_made() {
    let billing = subscribed(SeatsMode::Sync, 4).await;
    billing.stripe.fail_posts("subscriptions", 400);
    invite(&billing, "guest").await.data();
    let before = given_up(&billing, 1).await;
    let start = std::time::Instant::now();
    // It is counted after the commit.
    loop {
        let metrics = reqwest::get(format!("{}/metrics", billing.app.admin)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        // The change of the subscription itself may have met the larger team, and failed as well.
        if !metrics.contains("tenantry_seat_changes_total{outcome=\"given_up\"} 0") {
            break;
        }
        assert!(start.elapsed() < HANG, "{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let command = async |arguments: &'static [&'static str]| {
        let (app, stripe) =
            (billing.app.database.url("tenantry_app"), billing.stripe.base().to_owned());
        let run = move || {
            let mut command = tenantry();
            command.args(["billing", "seats"]).args(arguments).env("DATABASE_URL", app);
            command.env("BILLING_PROVIDER", "stripe").env("STRIPE_SECRET_KEY", "sk_test");
            command.env("STRIPE_WEBHOOK_SECRET", "whsec").env("STRIPE_API_BASE", stripe);
            run(&mut command)
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let shown = command(&["globex"]).await;
    let shown = succeeded(&shown);
    assert!(shown.starts_with("4 paid, 5 used by members and open invitations\n"), "{shown}");
    assert!(shown.contains("after 3 attempts: Stripe returned 400"), "{shown}");
    failed(&command(&["nowhere"]).await, "there is no organization nowhere");
    failed(&command(&["acme"]).await, "has no subscription per seat");
    // A server that has been repaired follows the next change, or the operator's word.
    billing.stripe.set_failure(None);
    succeeded(&command(&["globex", "--retry"]).await);
    reaches(&billing, 5).await;
    let shown = command(&["globex"]).await;
    assert!(succeeded(&shown).contains("the last change was made"), "{}", shown.stdout);
    billing.stripe.fail_posts("subscriptions", 400);
    invite(&billing, "another").await.data();
    given_up(&billing, before + 1).await;
    billing.stripe.set_failure(None);
    invite(&billing, "third").await.data();
    reaches(&billing, 7).await;
}
