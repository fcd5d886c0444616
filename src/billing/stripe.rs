//! Calls to Stripe, each between two transactions. The first authorizes and records the intent,
//! whose id is the idempotency key. Stripe is called while no transaction is open. The second
//! records the result.
//!
//! A Stripe page opens only for a customer whose metadata, as Stripe returns it, names the
//! organization.

use entity::{OutboxId, organization_billing};
use sea_orm::{ActiveModelTrait, IntoActiveModel};
use serde_json::json;
use stripe::{Checkout, Hosted, Stripe};

use super::{
    Settings,
    order::Wish,
    state::{get_locked, record},
    subscription_sync::{self, end, has_live_subscription, price_of, write},
};
use crate::{
    audit::Action,
    auth::Permission,
    error::{Error, Result},
    outbox::{self, Kind},
    plan,
    tenancy::{Session, UnitOfWork},
};

const HAS_ENDED: &str = "The subscription has ended. Use `createCheckoutSession`.";

/// A path of the application that Stripe sends the browser back to. It cannot lead to another site.
#[derive(Debug)]
pub(super) struct ReturnPath(String);

impl ReturnPath {
    /// Parses the path in an argument.
    pub(super) fn parse(field: &'static str, path: String) -> Result<Self> {
        let plain = path.chars().all(|char| char.is_ascii_graphic() && char != '\\');
        if !path.starts_with('/') || path.starts_with("//") || !plain || path.len() > 1_000 {
            return Err(Error::bad_input(
                field,
                "must be a path of the application, for example `/billing`, with at most 1,000 characters",
            ));
        }
        Ok(Self(path))
    }

    fn at(&self, settings: &Settings) -> String {
        format!("{}{}", settings.public_url, self.0)
    }
}

/// What to subscribe to, and the paths to return to.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) wish: Wish,
    pub(super) trial: bool,
    pub(super) success: ReturnPath,
    pub(super) cancel: ReturnPath,
}

pub(super) async fn create_checkout_session(session: &Session, order: &Order) -> Result<Hosted> {
    session.authorize(Permission::BillingManage)?;
    let stripe = required(session)?;
    let before = get_locked(session).await?.billing().clone();
    let (price, quantity) = order.wish.price(session).await?;
    if has_live_subscription(&before) {
        let message =
            "The organization already has a subscription. Change it in the billing portal.";
        return Err(Error::Conflict(message.to_owned()));
    }
    if order.trial && before.trial_ends_at.is_some() {
        return Err(Error::Conflict("The organization has already had its trial.".to_owned()));
    }
    let metadata = json!({ "plan": price.plan, "price": price.stripe_price_id });
    let intent = outbox::add(session, Kind::StripeCheckout, metadata.clone()).await?;
    let customer = ensure_customer(session, stripe, &before, intent).await?;
    let settings = session.settings().area::<Settings>()?;
    let checkout = Checkout {
        customer: &customer,
        price: &price.stripe_price_id,
        quantity,
        organization: &before.organization_id.to_string(),
        trial_days: order.trial.then(|| settings.trial_term.num_days()),
        success_url: &order.success.at(settings),
        cancel_url: &order.cancel.at(settings),
    };
    let key = intent.to_string();
    let asked = stripe.create_checkout_session(&checkout, &key);
    let refused =
        "Stripe does not sell this plan at the moment. Choose another, or try again later.";
    let hosted = session.outside(asked).await?.map_err(conflict_if_invalid(refused))?;
    let billing = get_locked(session).await?.billing().clone();
    outbox::finish(session, intent, None).await?;
    record(session, Action::BillingCheckoutStarted, &billing, metadata).await?;
    Ok(hosted)
}

/// Ensures that Stripe has a customer for the organization. The customer is stored before anything
/// is sold to it, so that its events find the organization. It is kept when the checkout fails.
async fn ensure_customer(
    session: &Session,
    stripe: &Stripe,
    before: &organization_billing::Model,
    intent: OutboxId,
) -> Result<String> {
    let (id, intent) = (before.organization_id, intent.to_string());
    let organization = id.to_string();
    let asked = async {
        match &before.stripe_customer_id {
            Some(known) if stripe.organization_of(known).await? == Some(id.0) => Ok(known.clone()),
            Some(_) => stripe.replace_customer(&organization, &intent).await,
            None => stripe.create_customer(&organization, before.stripe_event_at, &intent).await,
        }
    };
    let customer = session.outside(asked).await?.map_err(Error::of_unknown_outcome)?;
    let billing = get_locked(session).await?.billing().clone();
    if billing.stripe_customer_id != before.stripe_customer_id {
        // A concurrent request stored its customer first.
        return Ok(billing.stripe_customer_id.unwrap_or(customer));
    }
    let mut row = billing.into_active_model();
    row.stripe_customer_id.set_if_not_equals(Some(customer.clone()));
    if row.is_changed() {
        row.update(session).await?;
    }
    Ok(customer)
}

pub(super) async fn create_portal_session(session: &Session, back: &ReturnPath) -> Result<Hosted> {
    session.authorize(Permission::BillingManage)?;
    let stripe = required(session)?;
    let billing = get_locked(session).await?.billing().clone();
    let Some(customer) = &billing.stripe_customer_id else {
        let message =
            "The organization has no Stripe customer yet. Use `createCheckoutSession`.".to_owned();
        return Err(Error::Conflict(message));
    };
    let intent = outbox::add(session, Kind::StripePortal, json!({})).await?;
    let (url, key) = (back.at(session.settings().area()?), intent.to_string());
    let asked = async {
        if stripe.organization_of(customer).await? != Some(billing.organization_id.0) {
            let message = "The Stripe customer does not belong to this organization or was \
                           deleted. Use `createCheckoutSession` or contact support.";
            return Err(Error::Conflict(message.to_owned()));
        }
        let refused = "Stripe does not open its billing portal at the moment. Try again later.";
        let opened = stripe.create_portal_session(customer, &url, &key).await;
        opened.map_err(conflict_if_invalid(refused))
    };
    let hosted = session.outside(asked).await?.map_err(Error::of_unknown_outcome)?;
    outbox::finish(session, intent, None).await?;
    record(session, Action::BillingPortalOpened, &billing, json!({})).await?;
    Ok(hosted)
}

/// Sets whether the subscription ends with its period.
pub(super) async fn set_cancel_at_period_end(
    session: &Session,
    stripe: &Stripe,
    cancel: bool,
) -> Result<organization_billing::Model> {
    let before = get_locked(session).await?.billing().clone();
    let subscription =
        before.stripe_subscription_id.as_ref().filter(|_| has_live_subscription(&before));
    let Some(subscription) = subscription else {
        let message =
            if cancel { "The organization has no subscription to cancel." } else { HAS_ENDED };
        return Err(Error::Conflict(message.to_owned()));
    };
    if before.cancel_at_period_end == cancel {
        return Ok(before);
    }
    let payload = json!({ "subscription": subscription, "cancel_at_period_end": cancel });
    let intent = outbox::add(session, Kind::StripeCancellation, payload).await?;
    let key = intent.to_string();
    let prices = plan::ranked_prices(session).await?;
    let prices: Vec<_> = prices.into_iter().map(|price| price.stripe_price_id).collect();
    let asked = stripe.set_cancellation(subscription, cancel, &prices, &key);
    let refused = "Stripe does not change the end of this subscription. Use the billing portal.";
    let answer = session.outside(asked).await?.map_err(conflict_if_invalid(refused))?;
    let lock = get_locked(session).await?;
    // Stripe's response is as old as the request. If an event has changed billing since, the
    // event's state is newer.
    let after = match &answer {
        _ if lock.billing().updated_at != before.updated_at => lock.billing().clone(),
        Some(subscription) => {
            let price = price_of(session, subscription).await?;
            write(session, &lock, subscription, price.as_ref(), None).await?
        }
        None => end(session, &before, before.stripe_customer_id.clone(), None).await?,
    };
    outbox::finish(session, intent, None).await?;
    if !has_live_subscription(&after) {
        // It has ended at Stripe, which is what is left to record.
        subscription_sync::record(session, lock.billing(), &after, json!({})).await?;
        if cancel {
            return Ok(after);
        }
        session.outside(std::future::ready(())).await?;
        return Err(Error::Conflict(HAS_ENDED.to_owned()));
    }
    if after.cancel_at_period_end != cancel {
        return Err(Error::Conflict(refused.to_owned()));
    }
    // Stripe's response may report more than the cancellation.
    let known = organization_billing::Model {
        cancel_at_period_end: after.cancel_at_period_end,
        period_end: after.period_end,
        ..lock.billing().clone()
    };
    subscription_sync::record(session, &known, &after, json!({})).await?;
    let (action, metadata) = if cancel {
        let metadata = json!({ "plan": after.plan, "period_end": after.period_end });
        (Action::BillingSubscriptionCanceled, metadata)
    } else {
        (Action::BillingSubscriptionResumed, json!({ "plan": after.plan }))
    };
    record(session, action, &after, metadata).await?;
    Ok(after)
}

/// Converts the failure of a call. What Stripe does not allow now is a conflict, with a message for
/// the client; the reason is for the log.
fn conflict_if_invalid(message: &'static str) -> impl Fn(stripe::Error) -> Error {
    move |error| match error {
        stripe::Error::Invalid(cause) => {
            tracing::error!(cause, "Stripe refused a call");
            Error::Conflict(message.to_owned())
        }
        error => Error::of_unknown_outcome(error),
    }
}

fn required(session: &Session) -> Result<&Stripe> {
    session.settings().area::<Settings>()?.stripe.as_ref().ok_or_else(|| {
        Error::Conflict("Stripe does not manage subscriptions here. Use `changePlan`.".to_owned())
    })
}
