//! Applies an event of Stripe to the billing of its organization.

use chrono::{DateTime, Utc};
use entity::{SubscriptionStatus, organization_billing};
use serde_json::json;
use stripe::{Event, Status, Subject, Subscription};

use super::{
    decision::{Decision, Read, decide},
    recipient::{OTHER_CUSTOMER, Owner},
    stored_event::{Outcome, Step, finish, report, skip},
    subscription_sync::{end, is_live, price_of, record, status, write},
};
use crate::{
    audit::{self, Action},
    error::Result,
    plan::{self, Lock},
    seats,
    tenancy::{SystemSession, UnitOfWork},
};

/// The reason for skipping an event about a subscription that gives no plan.
const OTHER_PRODUCT: &str = "it is about another product";

/// Stripe's answers while one event is processed.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) owner: Option<Owner>,
    pub(super) read: Option<Read>,
    /// The subscriptions of the customer that have not ended.
    pub(super) others: Option<Vec<Subscription>>,
}

/// Applies an event to billing, in its organization. Without a subject, the customer was deleted.
/// `is_replay` means that an operator has asked for it.
pub(super) async fn deliver(
    session: &SystemSession,
    id: &str,
    event: &Event,
    subject: Option<Subject>,
    is_replay: bool,
    answers: &Answers,
) -> Result<Step> {
    let lock = plan::lock_alone(session).await?;
    let before = lock.billing();
    let Some(subject) = subject else {
        return delete_customer(session, id, &lock, event).await;
    };
    let read = answers.read.as_ref().filter(|read| read.version == before.updated_at);
    let current = read.and_then(|read| read.subscription.as_ref());
    let is_theirs = before.stripe_customer_id.as_ref().is_none_or(|c| *c == subject.customer)
        && current.is_none_or(|current| current.customer == subject.customer);
    if !is_theirs {
        return skip(session, id, OTHER_CUSTOMER).await;
    }
    let shown = match subject.state.clone().transpose() {
        Ok(shown) => shown,
        Err(problem) => return report(session, id, problem).await,
    };
    let is_known = before.stripe_subscription_id.as_ref() == Some(&subject.subscription);
    if let Some(candidate) = current.or(shown.as_ref()).filter(|_| !is_known)
        && price_of(session, candidate).await?.is_none()
    {
        let names_organization = subject.organization == Some(session.organization_id()?.0);
        if !names_organization || !is_live(status(candidate)) {
            return skip(session, id, OTHER_PRODUCT).await;
        }
        return ignore(session, id, event, candidate, unknown_price(candidate)).await;
    }
    match decide(before, event, &subject.subscription, shown.as_ref(), read, is_replay) {
        Decision::Ask => {
            let known = before.stripe_subscription_id.clone();
            Ok(Step::Ask(subject.subscription, known, before.updated_at))
        }
        Decision::Skip(why) => skip(session, id, why).await,
        Decision::SecondSubscription(second) => {
            let problem = format!(
                "the organization has another live subscription, {}: end one of them in Stripe",
                before.stripe_subscription_id.as_deref().unwrap_or_default()
            );
            ignore(session, id, event, second, problem).await
        }
        Decision::Write(subscription)
            if !is_live(status(subscription)) && is_local_trial(before, session.now()) =>
        {
            skip(session, id, "nothing was paid, and the organization's trial goes on").await
        }
        Decision::Write(subscription) if is_known && subscription.has_ended() => {
            let Some(others) = &answers.others else {
                return Ok(Step::AskOthers(subject.customer));
            };
            let successor = successor(session, subscription, others).await?;
            apply_state(session, id, &lock, successor.unwrap_or(subscription), event).await
        }
        Decision::Write(subscription) => apply_state(session, id, &lock, subscription, event).await,
    }
}

/// The live subscription that replaces one that has ended: the customer had two.
async fn successor<'others>(
    session: &SystemSession,
    ended: &Subscription,
    others: &'others [Subscription],
) -> Result<Option<&'others Subscription>> {
    let mut others: Vec<_> = others
        .iter()
        .filter(|other| is_live(status(other)) && other.customer == ended.customer)
        .filter(|other| other.id != ended.id)
        .collect();
    // One that gives its plan comes first.
    others.sort_by_key(|other| match other.status {
        Status::Active | Status::Trialing if other.paid_until.is_none() => 0,
        Status::Active | Status::Trialing | Status::PastDue => 1,
        _ => 2,
    });
    for other in others {
        if price_of(session, other).await?.is_some() {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Whether a trial without Stripe is in progress.
fn is_local_trial(billing: &organization_billing::Model, now: DateTime<Utc>) -> bool {
    billing.stripe_subscription_id.is_none()
        && billing.status == SubscriptionStatus::Trialing
        && billing.trial_ends_at.is_some_and(|end| now < end)
}

/// Writes the state of the subscription to billing. At an unknown price the plan stays.
async fn apply_state(
    session: &SystemSession,
    id: &str,
    lock: &Lock,
    subscription: &Subscription,
    event: &Event,
) -> Result<Step> {
    let before = lock.billing();
    let price = price_of(session, subscription).await?;
    let after = write(session, lock, subscription, price.as_ref(), Some(event)).await?;
    let mut metadata = json!({ "event": event.id });
    let is_unknown = price.is_none() && is_live(status(subscription));
    if is_unknown {
        metadata["unknown_price"] = json!(subscription.prices());
    }
    record(session, before, &after, metadata).await?;
    if (after.seats, after.period_start) != (before.seats, before.period_start) {
        seats::follow(session).await?;
    }
    if is_unknown {
        let problem = format!("the plan stays {}: {}", after.plan, unknown_price(subscription));
        return report(session, id, problem).await;
    }
    finish(session, id, None, true).await?;
    Ok(Step::Done(Outcome::Applied(after.organization_id)))
}

fn unknown_price(subscription: &Subscription) -> String {
    format!(
        "no plan has the price {}: add it with `tenantry plan price`, then replay the event",
        subscription.prices()
    )
}

/// Forgets a customer that was deleted at Stripe, which has also ended its subscriptions.
async fn delete_customer(
    session: &SystemSession,
    id: &str,
    lock: &Lock,
    event: &Event,
) -> Result<Step> {
    let before = lock.billing();
    if before.stripe_customer_id != event.deleted_customer() {
        return skip(session, id, OTHER_CUSTOMER).await;
    }
    let after = end(session, before, None, Some(event)).await?;
    let metadata = json!({ "event": event.id, "customer": before.stripe_customer_id });
    let (action, organization) = (Action::BillingCustomerDeleted, after.organization_id);
    audit::record(session, action, Some(organization.0), metadata).await?;
    record(session, before, &after, json!({ "event": event.id })).await?;
    finish(session, id, None, true).await?;
    Ok(Step::Done(Outcome::Applied(organization)))
}

/// Leaves billing as it is although the customer pays for the subscription, and tells the owners in
/// the audit log.
async fn ignore(
    session: &SystemSession,
    id: &str,
    event: &Event,
    subscription: &Subscription,
    problem: String,
) -> Result<Step> {
    let metadata = json!({
        "event": event.id,
        "subscription": subscription.id,
        "price": subscription.prices(),
    });
    let organization = session.organization_id()?;
    audit::record(session, Action::BillingSubscriptionIgnored, Some(organization.0), metadata)
        .await?;
    report(session, id, problem).await
}
