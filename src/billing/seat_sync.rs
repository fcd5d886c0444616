//! Sets the quantity of a per-seat subscription at Stripe to the size of the team. Stripe's present
//! quantity is read each time, so repeated and concurrent changes end with the newest size.

use entity::organization_billing;
use sea_orm::EntityTrait;
use serde_json::json;
use stripe::{Quantity, Stripe, Subscription};

use super::{
    state::record,
    subscription_sync::{self, has_live_subscription, price_of, write},
};
use crate::{
    audit::Action,
    error::{Error, Result},
    plan, seats,
    tenancy::{Fetch as _, SystemSession, UnitOfWork as _},
};

/// The size of a team, and the subscription that follows it.
#[derive(Debug)]
pub struct SeatChange {
    before: organization_billing::Model,
    subscription: String,
    /// Stripe's ids of the prices per seat. The first that the subscription has is that of the
    /// plan.
    prices: Vec<String>,
    quantity: u32,
}

/// The billing of an organization with a per-seat subscription.
async fn per_seat(session: &SystemSession) -> Result<Option<organization_billing::Model>> {
    let billing = organization_billing::Entity::find_by_id(session.organization_id()?)
        .fetch_one(session)
        .await?;
    Ok(billing.filter(|billing| billing.seats.is_some() && has_live_subscription(billing)))
}

/// The number of paid seats. `None` without a per-seat subscription.
pub async fn paid_seats(session: &SystemSession) -> Result<Option<i32>> {
    Ok(per_seat(session).await?.and_then(|billing| billing.seats))
}

/// Finds the change to make. `None` without a per-seat subscription.
pub async fn find_seat_change(session: &SystemSession) -> Result<Option<SeatChange>> {
    let Some(before) = per_seat(session).await? else { return Ok(None) };
    let prices = plan::ranked_prices(session).await?.into_iter().filter(|price| price.per_seat);
    let quantity = u32::try_from(seats::team_size(session).await?).map_err(Error::internal)?;
    let change = before.stripe_subscription_id.clone().map(|subscription| SeatChange {
        before,
        subscription,
        prices: prices.map(|price| price.stripe_price_id).collect(),
        quantity,
    });
    Ok(change)
}

/// Makes the change at Stripe. `None` if the subscription has ended, or is no longer per seat.
pub async fn set_seats(
    stripe: &Stripe,
    change: &SeatChange,
    proration: &str,
    key: &str,
) -> stripe::Result<Option<Subscription>> {
    let current = stripe.subscription(&change.subscription).await?;
    let Some(current) = current.filter(|subscription| !subscription.has_ended()) else {
        return Ok(None);
    };
    let Some(item) = current.first_item(&change.prices) else { return Ok(None) };
    if item.quantity.and_then(|seats| u32::try_from(seats).ok()) == Some(change.quantity) {
        return Ok(Some(current));
    }
    let quantity = Quantity {
        subscription: &change.subscription,
        item: &item.id,
        quantity: change.quantity,
        proration,
    };
    Ok(Some(stripe.set_quantity(&quantity, key).await?))
}

/// Records the change. Returns whether the team still has this size.
pub async fn record_seats(
    session: &SystemSession,
    change: &SeatChange,
    subscription: &Subscription,
) -> Result<bool> {
    let lock = plan::lock_alone(session).await?;
    // If an event has changed billing since, the event's state is newer.
    if lock.billing().updated_at == change.before.updated_at {
        let price = price_of(session, subscription).await?;
        let after = write(session, &lock, subscription, price.as_ref(), None).await?;
        if after.seats != change.before.seats {
            let metadata = json!({ "old_seats": change.before.seats, "seats": after.seats });
            record(session, Action::BillingSeatsChanged, &after, metadata).await?;
        }
        let before = organization_billing::Model { seats: after.seats, ..lock.billing().clone() };
        subscription_sync::record(session, &before, &after, json!({})).await?;
    }
    Ok(seats::team_size(session).await? == u64::from(change.quantity))
}
