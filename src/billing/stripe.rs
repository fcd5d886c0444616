//! What is asked of Stripe, in two transactions: the first authorizes and records the intent, whose id is the idempotency key;
//! then Stripe is asked while no transaction is open; the second records the result.

use entity::organization_billing;
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::json;

use super::{
    ops::{get_locked, record},
    state::{is_live, write},
};
use crate::{
    audit::Action,
    auth::Permission,
    error::{Error, Result},
    outbox::{self, Kind},
    stripe::{Checkout, Hosted, Stripe},
    tenancy::{Scope, Session},
};

/// A path of the application, to which Stripe sends the browser back: never to another site.
#[derive(Debug)]
pub(super) struct ReturnPath(String);

impl ReturnPath {
    /// The path in an argument.
    pub(super) fn parse(field: &'static str, path: String) -> Result<Self> {
        let plain = path.chars().all(|char| char.is_ascii_graphic() && char != '\\');
        if !path.starts_with('/') || path.starts_with("//") || !plain || path.len() > 1_000 {
            return Err(Error::bad_input(
                field,
                "must be a path of the application, for example /billing",
            ));
        }
        Ok(Self(path))
    }

    fn at(&self, session: &Session) -> String {
        format!("{}{}", session.rules().public_url, self.0)
    }
}

/// What somebody is to subscribe to, and where they come back to.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) plan: String,
    pub(super) trial: bool,
    pub(super) success: ReturnPath,
    pub(super) cancel: ReturnPath,
}

pub(super) async fn create_checkout_session(session: &Session, order: &Order) -> Result<Hosted> {
    session.authorize(Permission::BillingManage)?;
    let stripe = required(session)?;
    let before = get_locked(session).await?.billing().clone();
    let price = price_of(session, &order.plan).await?;
    if has_live_subscription(&before) {
        let message =
            "the organization has a subscription already: change it in the billing portal";
        return Err(Error::Conflict(message.to_owned()));
    }
    if order.trial && before.trial_ends_at.is_some() {
        return Err(Error::Conflict("the organization had its trial already".to_owned()));
    }
    let intent = outbox::add(session, Kind::StripeCheckout, json!({ "plan": order.plan })).await?;
    let organization = before.organization_id.to_string();
    let asked = async {
        let customer = match before.stripe_customer_id {
            Some(customer) => customer,
            None => stripe.create_customer(&organization, &intent.to_string()).await?,
        };
        let checkout = Checkout {
            customer: &customer,
            price: &price,
            organization: &organization,
            trial_days: order.trial.then(|| session.rules().trial_term.num_days()),
            success_url: &order.success.at(session),
            cancel_url: &order.cancel.at(session),
        };
        let hosted = stripe.create_checkout_session(&checkout, &intent.to_string()).await?;
        Ok::<_, Error>((customer, hosted))
    };
    let (customer, hosted) = session.outside(asked).await?.map_err(Error::of_unknown_outcome)?;
    let billing = get_locked(session).await?.billing().clone();
    let mut row = billing.clone().into_active_model();
    if billing.stripe_customer_id.is_none() {
        row.stripe_customer_id = Set(Some(customer));
        row.update(session).await?;
    }
    outbox::finish(session, intent, None).await?;
    record(session, Action::BillingCheckoutStarted, &billing, json!({ "plan": order.plan }))
        .await?;
    Ok(hosted)
}

pub(super) async fn create_portal_session(session: &Session, back: &ReturnPath) -> Result<Hosted> {
    session.authorize(Permission::BillingManage)?;
    let stripe = required(session)?;
    let billing = get_locked(session).await?.billing().clone();
    let Some(customer) = &billing.stripe_customer_id else {
        let message = "the organization is no customer yet: use createCheckoutSession".to_owned();
        return Err(Error::Conflict(message));
    };
    let intent = outbox::add(session, Kind::StripePortal, json!({})).await?;
    let (url, key) = (back.at(session), intent.to_string());
    let hosted = session
        .outside(stripe.create_portal_session(customer, &url, &key))
        .await?
        .map_err(Error::of_unknown_outcome)?;
    outbox::finish(session, intent, None).await?;
    record(session, Action::BillingPortalOpened, &billing, json!({})).await?;
    Ok(hosted)
}

/// Lets the subscription end with its period, or go on after all.
pub(super) async fn set_cancel_at_period_end(
    session: &Session,
    stripe: &Stripe,
    cancel: bool,
) -> Result<organization_billing::Model> {
    let before = get_locked(session).await?.billing().clone();
    let subscription =
        before.stripe_subscription_id.as_ref().filter(|_| has_live_subscription(&before));
    let Some(subscription) = subscription else {
        let message = if cancel {
            "the organization has no subscription to cancel"
        } else {
            "the subscription has ended: use createCheckoutSession"
        };
        return Err(Error::Conflict(message.to_owned()));
    };
    if before.cancel_at_period_end == cancel {
        return Ok(before);
    }
    let payload = json!({ "subscription": subscription, "cancel_at_period_end": cancel });
    let intent = outbox::add(session, Kind::StripeCancellation, payload).await?;
    let key = intent.to_string();
    let asked = stripe.set_cancel_at_period_end(subscription, cancel, &key);
    let subscription = session.outside(asked).await?.map_err(Error::of_unknown_outcome)?;
    let lock = get_locked(session).await?;
    // An event may have told more meanwhile than the answer, which is as old as the question.
    let after = if lock.billing().updated_at == before.updated_at {
        write(session, &lock, &subscription, None).await?
    } else {
        lock.billing().clone()
    };
    outbox::finish(session, intent, None).await?;
    let (action, metadata) = if cancel {
        let metadata = json!({ "plan": after.plan, "period_end": after.period_end });
        (Action::BillingSubscriptionCanceled, metadata)
    } else {
        (Action::BillingSubscriptionResumed, json!({ "plan": after.plan }))
    };
    record(session, action, &after, metadata).await?;
    Ok(after)
}

pub(super) fn has_live_subscription(billing: &organization_billing::Model) -> bool {
    billing.stripe_subscription_id.is_some() && is_live(billing.status)
}

fn required(session: &Session) -> Result<&Stripe> {
    session.rules().stripe.as_ref().ok_or_else(|| {
        Error::Conflict("billing is not kept by Stripe here: use changePlan".to_owned())
    })
}

async fn price_of(session: &Session, plan: &str) -> Result<String> {
    let plan = super::ops::known_plan(session, plan).await?;
    plan.stripe_price_id
        .ok_or_else(|| Error::bad_input("input.plan", "is not for sale: it has no price at Stripe"))
}
