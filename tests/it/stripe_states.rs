//! What users see when Stripe's state is unusual: cancellations at a date, pauses, deleted
//! customers and prices, subscriptions beside the current one, and text that cannot be stored.
//! Stripe never has to repeat an event that a repetition cannot apply.

use chrono::Utc;
use serde_json::{Value, json};

use crate::support::{
    billing_app::{BillingApp, CHECKOUT, PORTAL, event, subscription, updated},
    placement::GLOBEX,
    stripe::FakeStripe,
};

fn of(mutation: &str) -> String {
    format!(
        "mutation {{ {mutation}(input: {{ organizationId: \"{GLOBEX}\" }}) {{ billing {{ status cancelAtPeriodEnd }} }} }}"
    )
}

async fn actions(billing: &BillingApp) -> Vec<String> {
    let entries = billing.audit_entries().await;
    entries.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

/// Globex subscribes to Pro, here and at Stripe.
async fn subscribed() -> BillingApp {
    let billing = BillingApp::with_customer().await;
    let active = subscription("sub_1", "active", "price_pro");
    billing.stripe.set_subscription(&active);
    assert_eq!(billing.deliver(&updated("evt_1", 100, &active)).await.1, "applied\n");
    billing.stripe.take_requests();
    billing
}

fn deleted(id: &str, created: i64, subscription: &Value) -> Value {
    event(id, "customer.subscription.deleted", created, subscription)
}

/// Returns the number of events that Stripe has to send again.
async fn waiting(billing: &BillingApp) -> i64 {
    let waiting = "SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NULL";
    billing.app.database.value(waiting).await
}

/// Asserts that Stripe need not repeat the event, and that operators see this problem.
async fn assert_problem(billing: &BillingApp, event: &Value, problem: &str) {
    let (status, response) = billing.deliver(event).await;
    assert_eq!((status, response.contains(problem)), (200, true), "{response}");
    let kept = billing.error_of(event["id"].as_str().unwrap()).await.unwrap();
    assert!(kept.contains(problem), "{kept}");
    let metrics = reqwest::get(format!("{}/metrics", billing.app.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("tenantry_webhooks_total{outcome=\"problem\"}"), "{metrics}");
    assert_eq!(waiting(billing).await, 0);
}

#[tokio::test]
async fn a_cancellation_at_a_date_can_be_withdrawn() {
    for both in [false, true] {
        let billing = subscribed().await;
        let mut ending = subscription("sub_1", "active", "price_pro");
        ending["cancel_at"] = json!(1_902_592_000);
        ending["cancel_at_period_end"] = json!(both);
        billing.stripe.set_subscription(&ending);
        billing.deliver(&updated("evt_2", 200, &ending)).await;
        assert_eq!(billing.state().await["billing"]["cancelAtPeriodEnd"], true);
        let data = billing.owner().query(&of("resumeSubscription")).await.data();
        assert_eq!(data["resumeSubscription"]["billing"]["cancelAtPeriodEnd"], false);
        let now = billing.stripe.subscription("sub_1");
        assert_eq!(
            (&now["cancel_at"], &now["cancel_at_period_end"]),
            (&json!(null), &json!(false))
        );
        assert_eq!(actions(&billing).await.pop().unwrap(), "billing.subscription_resumed");
    }
}

#[tokio::test]
async fn a_cancellation_that_stripe_does_not_change_is_no_success() {
    let billing = subscribed().await;
    // A 404 of a proxy does not end the subscription.
    billing.stripe.fail_path("subscriptions", 404);
    billing.owner().query(&of("cancelSubscription")).await.assert_failed("CONFLICT");
    billing.stripe.fail_posts("subscriptions", 400);
    billing.owner().query(&of("cancelSubscription")).await.assert_failed("CONFLICT");
    assert_eq!(billing.state().await["billing"]["cancelAtPeriodEnd"], false);
    assert_eq!(actions(&billing).await, ["billing.plan_changed"]);
    // A cancellation in the portal that no event has reported yet is not repeated.
    billing.stripe.set_failure(None);
    let mut ending = subscription("sub_1", "active", "price_pro");
    ending["cancel_at"] = json!(1_902_592_000);
    billing.stripe.set_subscription(&ending);
    billing.stripe.take_requests();
    let data = billing.owner().query(&of("cancelSubscription")).await.data();
    assert_eq!(data["cancelSubscription"]["billing"]["cancelAtPeriodEnd"], true);
    assert_eq!(billing.stripe.take_requests().len(), 1, "it was only read");
}

#[tokio::test]
async fn a_subscription_that_has_ended_at_stripe_is_settled_when_its_owner_acts() {
    for is_known in [true, false] {
        for (mutation, code) in
            [("cancelSubscription", None), ("resumeSubscription", Some("CONFLICT"))]
        {
            let billing = subscribed().await;
            if code.is_some() {
                let mut ending = subscription("sub_1", "active", "price_pro");
                ending["cancel_at_period_end"] = json!(true);
                billing.deliver(&updated("evt_2", 200, &ending)).await;
            }
            if is_known {
                let ended = subscription("sub_1", "canceled", "price_pro");
                billing.stripe.set_subscription(&ended);
            } else {
                billing.stripe.remove_subscription("sub_1");
            }
            let reply = billing.owner().query(&of(mutation)).await;
            match code {
                Some(code) => reply.assert_failed(code),
                None => assert_eq!(reply.data()[mutation]["billing"]["status"], "CANCELED"),
            }
            assert_eq!(billing.effective_plan().await, ("free".to_owned(), "CANCELED".to_owned()));
            assert_eq!(actions(&billing).await.pop().unwrap(), "billing.subscription_updated");
            // A new subscription can be bought.
            billing.owner().query(CHECKOUT).await.data();
            // Stripe says that it lives after all.
            let active = subscription("sub_1", "active", "price_pro");
            billing.stripe.set_subscription(&active);
            billing.deliver(&updated("evt_3", 300, &active)).await;
            assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_subscription_to_another_product_changes_nothing() {
    for is_subscribed in [true, false] {
        let billing =
            if is_subscribed { subscribed().await } else { BillingApp::with_customer().await };
        if !is_subscribed {
            // The customer is known from a checkout.
            billing.app.database.execute(&format!("UPDATE billing.organization_billing SET stripe_customer_id = 'cus_1' WHERE organization_id = '{GLOBEX}'")).await;
        }
        let before = (billing.state().await, actions(&billing).await);
        for (number, status) in ["incomplete", "active", "past_due", "canceled"].iter().enumerate()
        {
            let mut addon = subscription("sub_2", status, "price_addon");
            addon["metadata"] = json!({});
            billing.stripe.set_subscription(&addon);
            let number = i64::try_from(number).unwrap();
            for event in [
                updated(&format!("evt_{status}"), 200 + number, &addon),
                deleted(&format!("evt_deleted_{status}"), 200 + number, &addon),
            ] {
                let (code, response) = billing.deliver(&event).await;
                assert_eq!((code, response.contains("nothing to do")), (200, true), "{response}");
            }
        }
        let completed = json!({ "id": "cs_1", "customer": "cus_1", "subscription": "sub_2" });
        let completed = event("evt_cs", "checkout.session.completed", 300, &completed);
        assert_eq!(billing.deliver(&completed).await.0, 200);
        assert_eq!((billing.state().await, actions(&billing).await), before);
        assert_eq!(waiting(&billing).await, 0);
    }
}

#[tokio::test]
async fn a_second_paid_subscription_is_reported_and_takes_effect_after_the_first() {
    let billing = subscribed().await;
    let second = subscription("sub_2", "active", "price_enterprise");
    billing.stripe.set_subscription(&second);
    assert_problem(&billing, &updated("evt_2", 200, &second), "another live subscription, sub_1")
        .await;
    assert_eq!(billing.effective_plan().await.0, "pro");
    let entry = billing.audit_entries().await.pop().unwrap();
    assert_eq!(entry["action"], "billing.subscription_ignored");
    assert_eq!(entry["metadata"]["subscription"], "sub_2");
    // No further event is needed for the second, which is paid, unlike a third.
    billing.stripe.set_subscription(&subscription("sub_3", "unpaid", "price_pro"));
    let ended = subscription("sub_1", "canceled", "price_pro");
    billing.stripe.set_subscription(&ended);
    assert_eq!(billing.deliver(&deleted("evt_3", 300, &ended)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("enterprise".to_owned(), "ACTIVE".to_owned()));
    assert_eq!(actions(&billing).await.pop().unwrap(), "billing.plan_changed");
}

#[tokio::test]
async fn another_product_does_not_replace_a_subscription_that_has_ended() {
    let billing = subscribed().await;
    billing.stripe.set_subscription(&subscription("sub_2", "active", "price_addon"));
    let ended = subscription("sub_1", "canceled", "price_pro");
    billing.stripe.set_subscription(&ended);
    billing.deliver(&deleted("evt_2", 200, &ended)).await;
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "CANCELED".to_owned()));
}

#[tokio::test]
async fn a_paused_collection_is_visible_and_void_invoices_end_the_plan_with_the_paid_period() {
    let query = "{ organization { plan { key } billing { status collectionPaused paidUntil } } }";
    let now = Utc::now().timestamp();
    for (behavior, period_end, plan) in [
        ("void", now + 86_400, "pro"),
        ("void", now - 40 * 86_400, "free"),
        ("keep_as_draft", now - 40 * 86_400, "pro"),
        ("mark_uncollectible", now - 40 * 86_400, "pro"),
    ] {
        let billing = subscribed().await;
        let mut paused = subscription("sub_1", "active", "price_pro");
        paused["pause_collection"] = json!({ "behavior": behavior, "resumes_at": null });
        paused["items"]["data"][0]["current_period_end"] = json!(period_end);
        billing.deliver(&updated("evt_2", 200, &paused)).await;
        let state = billing.owner().data(query).await["organization"].clone();
        assert_eq!(state["plan"]["key"], plan, "{behavior}: {state}");
        assert_eq!(state["billing"]["collectionPaused"], true);
        assert_eq!(state["billing"]["paidUntil"].is_null(), behavior != "void");
        let entry = billing.audit_entries().await.pop().unwrap();
        assert_eq!(entry["metadata"]["collection_paused"], true);
        // Periods go on, unpaid.
        paused["items"]["data"][0]["current_period_end"] = json!(now + 40 * 86_400);
        billing.deliver(&updated("evt_3", 300, &paused)).await;
        assert_eq!(billing.effective_plan().await.0, plan, "{behavior}");
        // The end of the pause.
        paused["pause_collection"] = Value::Null;
        billing.deliver(&updated("evt_4", 400, &paused)).await;
        let state = billing.owner().data(query).await["organization"].clone();
        assert_eq!(
            (&state["plan"]["key"], &state["billing"]["paidUntil"]),
            (&json!("pro"), &json!(null))
        );
        assert_eq!(state["billing"]["collectionPaused"], false);
    }
}

#[tokio::test]
async fn a_trial_at_stripe_lasts_until_stripe_reports_its_end() {
    let now = Utc::now().timestamp();
    let day = 86_400;
    for (trial_end, cancels, plan) in [
        (now - day, false, "pro"),
        (now - 4 * day, false, "free"),
        // Stripe charges nothing for a trial that is set to end.
        (now - day, true, "free"),
    ] {
        let billing = BillingApp::with_customer().await;
        let mut trial = subscription("sub_1", "trialing", "price_pro");
        trial["trial_end"] = json!(trial_end);
        trial["cancel_at_period_end"] = json!(cancels);
        trial["items"]["data"][0]["current_period_end"] = json!(trial_end);
        billing.deliver(&updated("evt_1", 100, &trial)).await;
        assert_eq!(billing.effective_plan().await.0, plan, "{trial}");
        // Stripe's word counts at once.
        let mut unpaid = trial.clone();
        unpaid["status"] = json!("paused");
        billing.deliver(&updated("evt_2", 200, &unpaid)).await;
        assert_eq!(billing.effective_plan().await, ("free".to_owned(), "PAUSED".to_owned()));
    }
}

#[tokio::test]
async fn a_deleted_customer_ends_the_subscription_and_the_next_checkout_has_a_new_one() {
    let billing = BillingApp::start().await;
    billing.owner().query(CHECKOUT).await.data();
    billing.deliver(&updated("evt_1", 100, &subscription("sub_1", "active", "price_pro"))).await;
    assert_eq!(billing.effective_plan().await.0, "pro");
    billing.stripe.remove_customer("cus_1");
    billing.stripe.remove_subscription("sub_1");
    billing.owner().query(PORTAL).await.assert_failed("CONFLICT");
    let customer = json!({ "id": "cus_1", "object": "customer" });
    let gone = event("evt_2", "customer.deleted", 200, &customer);
    assert_eq!(billing.deliver(&gone).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "CANCELED".to_owned()));
    let entries = actions(&billing).await;
    assert_eq!(
        entries[entries.len() - 2..],
        ["billing.customer_deleted", "billing.subscription_updated"]
    );
    // The subscription's own event comes late.
    let ended = subscription("sub_1", "canceled", "price_pro");
    assert_eq!(billing.deliver(&deleted("evt_3", 200, &ended)).await.0, 200);
    billing.owner().query(PORTAL).await.assert_failed("CONFLICT");
    billing.stripe.take_requests();
    billing.owner().query(CHECKOUT).await.data();
    let calls = billing.stripe.take_requests();
    assert_eq!(calls.last().unwrap().form["customer"], "cus_2");
    let mut second = subscription("sub_2", "active", "price_pro");
    second["customer"] = json!("cus_2");
    billing.stripe.set_subscription(&second);
    assert_eq!(billing.deliver(&updated("evt_4", 300, &second)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    // A customer of no organization.
    let other = event("evt_5", "customer.deleted", 400, &json!({ "id": "cus_9" }));
    assert_eq!(billing.deliver(&other).await.0, 200);
}

#[tokio::test]
async fn a_plan_that_stripe_does_not_sell_now_is_a_conflict_and_keeps_the_customer() {
    let billing = BillingApp::start().await;
    for (path, status) in [("checkout", 400), ("checkout", 404)] {
        billing.stripe.fail_posts(path, status);
        billing.owner().query(CHECKOUT).await.assert_failed("CONFLICT");
    }
    billing.stripe.fail_posts("billing_portal", 400);
    billing.owner().query(PORTAL).await.assert_failed("CONFLICT");
    // A wrong key is the operator's fault.
    billing.stripe.fail_posts("checkout", 401);
    billing.owner().query(CHECKOUT).await.assert_failed("INTERNAL");
    let customers = "SELECT count(stripe_customer_id) FROM billing.organization_billing";
    assert_eq!(billing.app.database.value::<i64>(customers).await, 1);
    billing.stripe.set_failure(None);
    billing.stripe.take_requests();
    billing.owner().query(CHECKOUT).await.data();
    assert!(billing.stripe.take_requests().iter().all(|call| call.path != "customers"));
}

#[tokio::test]
async fn text_that_postgresql_cannot_store_is_replaced() {
    let billing = BillingApp::with_customer().await;
    let mut paid = subscription("sub_1", "active", "price_pro");
    paid["metadata"]["note"] = json!("a\u{0}b");
    assert_eq!(billing.deliver(&updated("evt_1", 100, &paid)).await.1, "applied\n");
    let note: String = billing
        .app
        .database
        .value("SELECT payload #>> '{data,object,metadata,note}' FROM billing.stripe_events")
        .await;
    assert_eq!(note, "a\u{fffd}b");
    // Half of a surrogate pair, as a key too, in an event that is about something else.
    let customer =
        event("evt_2", "customer.updated", 200, &json!({ "id": "cus_1", "HERE": "HERE" }));
    for odd in [r"\ud83d", r"\ude80\ud83d", r"\u0000", "\u{fffe}"] {
        let body = customer
            .to_string()
            .replace("HERE", odd)
            .replace("evt_2", &format!("evt_{}", odd.len()));
        let now = Utc::now().timestamp();
        let signature =
            crate::support::stripe::signature(crate::support::stripe::WEBHOOK_SECRET, now, &body);
        let (status, response) = billing.post(body, Some(&signature)).await;
        assert_eq!((status, response.contains("nothing to do")), (200, true), "{response}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_kept_for_an_operator() {
    let billing = subscribed().await;
    let unknown = subscription("sub_1", "on_fire", "price_pro");
    assert_problem(&billing, &updated("evt_2", 200, &unknown), "on_fire").await;
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    // Nor can Stripe's answer be read.
    billing.stripe.set_subscription(&unknown);
    let active = subscription("sub_1", "active", "price_pro");
    assert_problem(&billing, &updated("evt_now", 100, &active), "on_fire").await;
    // Stripe no longer knows the subscription that it would have to be asked about.
    billing.stripe.set_subscription(&active);
    let second = subscription("sub_2", "active", "price_pro");
    let (status, _) = billing.deliver(&updated("evt_3", 200, &second)).await;
    assert_eq!((status, waiting(&billing).await), (200, 0));
    billing.stripe.remove_subscription("sub_1");
    let due = subscription("sub_1", "past_due", "price_pro");
    assert_eq!(billing.deliver(&updated("evt_4", 100, &due)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await.1, "PAST_DUE");
}

#[tokio::test]
async fn a_payment_for_an_organization_with_another_customer_is_reported() {
    let billing = subscribed().await;
    let mut theirs = subscription("sub_2", "active", "price_enterprise");
    theirs["customer"] = json!("cus_2");
    billing.stripe.add_customer("cus_2", Some(GLOBEX));
    billing.stripe.set_subscription(&theirs);
    assert_problem(&billing, &updated("evt_2", 200, &theirs), GLOBEX).await;
    assert_eq!(billing.effective_plan().await.0, "pro", "metadata alone assigns nothing");
    // An organization that never existed has no operator to call.
    theirs["metadata"]["organization_id"] = json!("00000000-0000-4000-8000-0000000000ff");
    let (_, response) = billing.deliver(&updated("evt_3", 200, &theirs)).await;
    assert!(response.contains("nothing to do"), "{response}");
}

#[tokio::test]
async fn an_organization_can_be_deleted_once_its_subscription_is_canceled() {
    let billing = subscribed().await;
    let delete =
        "mutation { deleteOrganization(input: { slug: \"globex\" }) { organization { slug } } }";
    billing.owner().query(delete).await.assert_failed("CONFLICT");
    // Until a date in a later period the customer pays again.
    let mut later = subscription("sub_1", "active", "price_pro");
    later["cancel_at"] = json!(1_950_000_000);
    billing.stripe.set_subscription(&later);
    billing.deliver(&updated("evt_later", 150, &later)).await;
    billing.owner().query(delete).await.assert_failed("CONFLICT");
    billing.owner().query(&of("cancelSubscription")).await.data();
    assert_eq!(billing.stripe.subscription("sub_1")["cancel_at_period_end"], true);
    billing.owner().query(delete).await.data();
    // The subscription's end concerns no organization any more.
    let ended = subscription("sub_1", "canceled", "price_pro");
    let (status, _) = billing.deliver(&deleted("evt_2", 200, &ended)).await;
    assert_eq!((status, waiting(&billing).await), (200, 0));
}

#[tokio::test]
async fn a_trial_from_the_start_ends_exactly_and_can_be_followed_by_a_subscription() {
    let mut settings = crate::support::AppSettings::default();
    settings.areas.billing.trial_plan = Some("pro".to_owned());
    let billing = BillingApp::with(settings).await;
    let founder = || Some(crate::support::app::token("founder"));
    let create = "mutation { createOrganization(input: { name: \"Initech\", slug: \"initech\" }) { organization { id } } }";
    let data = billing.app.client(None, founder()).query(create).await.data();
    let id = data["createOrganization"]["organization"]["id"].clone();
    let owner = billing.app.client(Some("initech"), founder());
    let state = "{ organization { plan { key } billing { status } } }";
    assert_eq!(owner.data(state).await["organization"]["billing"]["status"], "TRIALING");
    // A first invoice that is not paid does not end it.
    let mut unpaid = subscription("sub_1", "incomplete", "price_enterprise");
    unpaid["metadata"]["organization_id"] = id.clone();
    unpaid["customer"] = json!("cus_initech");
    billing.stripe.add_customer("cus_initech", id.as_str());
    billing.deliver(&updated("evt_0", 50, &unpaid)).await;
    assert_eq!(owner.data(state).await["organization"]["billing"]["status"], "TRIALING");
    // Its end waits for no event, because Stripe does not know the trial.
    let end =
        "UPDATE billing.organization_billing SET trial_ends_at = now() WHERE status = 'trialing'";
    billing.app.database.execute(end).await;
    assert_eq!(owner.data(state).await["organization"]["plan"]["key"], "free");
    let second = CHECKOUT.replace("plan:", "trial: true, plan:");
    owner.query(&second).await.assert_failed("CONFLICT");
    owner.query(CHECKOUT).await.data();
    let mut paid = subscription("sub_1", "active", "price_enterprise");
    paid["metadata"]["organization_id"] = id;
    paid["customer"] = json!("cus_2");
    assert_eq!(billing.deliver(&updated("evt_1", 100, &paid)).await.1, "applied\n");
    let expected = json!({ "plan": { "key": "enterprise" }, "billing": { "status": "ACTIVE" } });
    assert_eq!(owner.data(state).await["organization"], expected);
}

#[tokio::test]
async fn a_payment_that_fails_for_good_ends_the_plan_and_a_late_one_restores_it() {
    let billing = subscribed().await;
    let now = Utc::now().timestamp();
    let at = |status: &str| subscription("sub_1", status, "price_pro");
    for (number, (status, plan)) in [
        ("past_due", "pro"),
        ("unpaid", "free"),
        ("active", "pro"),
        ("past_due", "pro"),
        ("canceled", "free"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("evt_{}", number + 2);
        let created = now + i64::try_from(number).unwrap();
        billing.stripe.set_subscription(&at(status));
        assert_eq!(billing.deliver(&updated(&id, created, &at(status))).await.1, "applied\n");
        let expected = (plan.to_owned(), status.to_uppercase());
        assert_eq!(billing.effective_plan().await, expected, "{status}");
    }
}

#[tokio::test]
async fn a_trial_that_is_paused_without_a_payment_method_resumes_with_its_own_event() {
    let billing = subscribed().await;
    let mut paused = subscription("sub_1", "paused", "price_pro");
    paused["trial_end"] = json!(1_000_000_000);
    let event_of = |id: &str, kind: &str, created: i64, object: &Value| {
        event(id, &format!("customer.subscription.{kind}"), created, object)
    };
    assert_eq!(billing.deliver(&event_of("evt_2", "paused", 200, &paused)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("free".to_owned(), "PAUSED".to_owned()));
    paused["status"] = json!("active");
    assert_eq!(billing.deliver(&event_of("evt_3", "resumed", 300, &paused)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    // Events of the same object that announce something change no plan.
    for (number, kind) in ["trial_will_end", "pending_update_applied", "pending_update_expired"]
        .into_iter()
        .enumerate()
    {
        let created = 400 + i64::try_from(number).unwrap();
        let (status, _) =
            billing.deliver(&event_of(&format!("evt_{kind}"), kind, created, &paused)).await;
        assert_eq!(status, 200, "{kind}");
    }
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
    let entries = actions(&billing).await;
    assert_eq!(entries.len(), 3, "{entries:?}");
}

#[tokio::test]
async fn invoices_disputes_and_refunds_change_nothing_and_are_not_repeated() {
    let billing = subscribed().await;
    let before = (billing.state().await, actions(&billing).await);
    let invoice = json!({ "id": "in_1", "object": "invoice", "customer": "cus_1", "subscription": "sub_1",
        "parent": { "subscription_details": { "subscription": "sub_1" } }, "status": "open" });
    let charge = json!({ "id": "ch_1", "object": "charge", "customer": "cus_1", "refunded": true });
    let dispute = json!({ "id": "dp_1", "object": "dispute", "charge": "ch_1", "status": "lost" });
    let payment =
        json!({ "id": "cs_1", "customer": "cus_1", "mode": "payment", "subscription": null });
    let without_customer = json!({ "id": "cs_2", "customer": null, "mode": "setup" });
    for (kind, object) in [
        ("invoice.paid", &invoice),
        ("invoice.payment_failed", &invoice),
        ("invoice.finalization_failed", &invoice),
        ("charge.refunded", &charge),
        ("charge.dispute.created", &dispute),
        ("charge.dispute.closed", &dispute),
        ("customer.updated", &json!({ "id": "cus_1", "email": "a@example.com" })),
        ("checkout.session.completed", &payment),
        ("checkout.session.expired", &without_customer),
        ("checkout.session.completed", &without_customer),
        ("subscription_schedule.released", &json!({ "id": "sub_sched_1", "customer": "cus_1" })),
        ("a.kind.of.tomorrow", &json!(null)),
    ] {
        for id in ["once", "again"] {
            let (status, response) =
                billing.deliver(&event(&format!("evt_{kind}_{id}"), kind, 900, object)).await;
            assert_eq!(
                (status, response.contains("nothing to do")),
                (200, true),
                "{kind}: {response}"
            );
        }
    }
    // An event of Stripe's API v2 has no object, and another form of time.
    let thin = json!({ "id": "evt_v2", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found",
        "created": "2026-01-01T00:00:00.000Z", "livemode": false, "data": { "reason": "none" } });
    let (status, response) = billing.deliver(&thin).await;
    assert_eq!((status, response.contains("nothing to do")), (200, true), "{response}");
    assert_eq!((billing.state().await, actions(&billing).await), before);
    assert_eq!(waiting(&billing).await, 0);
}

#[tokio::test]
async fn an_event_of_test_mode_gives_no_plan_where_the_key_is_of_live_mode() {
    let live = "needs an operator: it is of Stripe's live mode, but STRIPE_SECRET_KEY is a key of \
                test mode: replace the key, then replay the event\n";
    for (key, of_event, expected) in [
        ("sk_live_1", false, "nothing to do: it is of Stripe's test mode\n"),
        ("rk_live_1", false, "nothing to do: it is of Stripe's test mode\n"),
        // A customer has paid, so it must not be lost.
        ("sk_test_1", true, live),
        ("sk_live_1", true, "applied\n"),
        ("rk_test_1", false, "applied\n"),
    ] {
        let stripe = FakeStripe::start().await;
        stripe.add_customer("cus_1", Some(GLOBEX));
        let mut settings = crate::support::AppSettings::default();
        settings.areas.billing.stripe = Some(stripe.client_with_key(key));
        let billing = BillingApp::on(settings, stripe).await;
        let mut event = updated("evt_1", 100, &subscription("sub_1", "active", "price_pro"));
        event["livemode"] = json!(of_event);
        assert_eq!(billing.deliver(&event).await, (200, expected.to_owned()), "{key}");
        let plan = if expected == "applied\n" { "pro" } else { "free" };
        assert_eq!(billing.effective_plan().await.0, plan, "{key}");
        assert_eq!(waiting(&billing).await, 0);
    }
}

#[tokio::test]
async fn the_price_of_the_plan_decides_the_period_of_a_subscription_with_several_intervals() {
    let billing = BillingApp::with_customer().await;
    let mut several = subscription("sub_1", "active", "price_addon");
    let items = several["items"]["data"].as_array_mut().unwrap();
    items.push(json!({ "id": "si_2", "price": { "id": "price_pro" }, "quantity": 1,
        "current_period_start": 1_900_000_000, "current_period_end": 1_931_536_000 }));
    assert_eq!(billing.deliver(&updated("evt_1", 100, &several)).await.1, "applied\n");
    let query = "{ organization { plan { key } billing { periodEnd cancelAtPeriodEnd } } }";
    let state = async || billing.owner().data(query).await["organization"].clone();
    let expected = json!({ "plan": { "key": "pro" },
        "billing": { "periodEnd": "2031-03-17T17:46:40+00:00", "cancelAtPeriodEnd": false } });
    assert_eq!(state().await, expected);
    // It ends within the year that is paid, although the addition is renewed before.
    several["cancel_at"] = json!(1_920_000_000);
    assert_eq!(billing.deliver(&updated("evt_2", 200, &several)).await.1, "applied\n");
    let ending = state().await;
    assert_eq!(ending["billing"]["periodEnd"], "2030-11-04T05:20:00+00:00");
    assert_eq!(ending["billing"]["cancelAtPeriodEnd"], true);
    // The mutations decide by the same period.
    billing.stripe.set_subscription(&several);
    let data = billing.owner().query(&of("resumeSubscription")).await.data();
    assert_eq!(data["resumeSubscription"]["billing"]["cancelAtPeriodEnd"], false);
    assert_eq!(billing.stripe.subscription("sub_1")["cancel_at"], json!(null));
    // The other way round: the plan is renewed before the end, which is in the addition's year.
    let items = &mut several["items"]["data"];
    items[0]["current_period_end"] = json!(1_931_536_000);
    items[1]["current_period_end"] = json!(1_902_592_000);
    assert_eq!(billing.deliver(&updated("evt_3", 300, &several)).await.1, "applied\n");
    assert_eq!(state().await["billing"]["cancelAtPeriodEnd"], false);
    billing.stripe.set_subscription(&several);
    let data = billing.owner().query(&of("cancelSubscription")).await.data();
    assert_eq!(data["cancelSubscription"]["billing"]["cancelAtPeriodEnd"], true);
    assert_eq!(billing.stripe.subscription("sub_1")["cancel_at_period_end"], json!(true));
}

#[tokio::test]
async fn an_event_in_the_form_of_an_old_api_version_is_applied() {
    let billing = BillingApp::with_customer().await;
    // Before prices, and with the objects that newer versions only name.
    let old = json!({
        "id": "sub_1", "object": "subscription", "customer": { "id": "cus_1", "object": "customer" }, "status": "active",
        "metadata": { "organization_id": GLOBEX.to_uppercase() }, "cancel_at_period_end": false, "quantity": 1,
        "current_period_start": 1_900_000_000, "current_period_end": 1_902_592_000,
        "plan": { "id": "price_pro", "object": "plan" },
        "items": { "object": "list", "data": [{ "id": "si_1", "plan": { "id": "price_pro" }, "quantity": 1 }] },
    });
    let mut event = updated("evt_1", 100, &old);
    event["api_version"] = json!("2016-07-06");
    event["pending_webhooks"] = json!(1);
    event["request"] = json!("req_1");
    assert_eq!(billing.deliver(&event).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
}

#[tokio::test]
async fn ids_and_amounts_that_stripe_does_not_send_change_nothing_and_are_not_repeated() {
    let billing = subscribed().await;
    let before = billing.state().await;
    let mut odd = Vec::new();
    for (path, value) in [
        ("id", json!("sub\u{0}1")),
        ("id", json!(7)),
        ("id", json!(null)),
        ("customer", json!("cus\u{0}1")),
        ("customer", json!(["cus_1"])),
        ("customer", json!("")),
        ("status", json!(null)),
        ("status", json!("ACTIVE")),
        ("status", json!({ "a": 1 })),
    ] {
        let mut object = subscription("sub_1", "past_due", "price_pro");
        object[path] = value;
        odd.push(object);
    }
    odd.push(json!("sub_1"));
    odd.push(json!([]));
    for (number, object) in odd.iter().enumerate() {
        let number = i64::try_from(number).unwrap();
        let (status, response) =
            billing.deliver(&updated(&format!("evt_odd_{number}"), 1_000 + number, object)).await;
        assert_eq!(status, 200, "{object}: {response}");
    }
    assert_eq!(billing.state().await, before);
    assert_eq!(waiting(&billing).await, 0);
    // Fields that no state depends on may have any value.
    let mut unusual = subscription("sub_1", "active", "price_pro");
    for (field, value) in [
        ("cancel_at", json!(-1)),
        ("trial_end", json!("tomorrow")),
        ("pause_collection", json!([])),
        ("metadata", json!(null)),
        ("cancel_at_period_end", json!("false")),
    ] {
        unusual[field] = value;
    }
    unusual["items"]["data"][0]["quantity"] = json!(9_999_999_999_999_i64);
    unusual["items"]["data"][0]["current_period_end"] = json!(253_402_300_800_i64);
    assert_eq!(billing.deliver(&updated("evt_unusual", 2_000, &unusual)).await.1, "applied\n");
    assert_eq!(billing.effective_plan().await, ("pro".to_owned(), "ACTIVE".to_owned()));
}
