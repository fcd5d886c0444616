//! Whether an event of Stripe is applied: times order the events of one subscription, and Stripe is
//! asked where they cannot.

use chrono::{DateTime, Utc};
use entity::{SubscriptionStatus, organization_billing};
use stripe::{Event, Subscription};

use super::subscription_sync::{is_live, status};

/// The subscriptions of an event as Stripe reported them. It is valid while billing is still at
/// `version`.
pub(super) struct Read {
    /// The subscription of the event. `None` if Stripe does not know it.
    pub(super) subscription: Option<Subscription>,
    /// The stored subscription, if it is a different one that Stripe knows.
    pub(super) known: Option<Subscription>,
    pub(super) version: DateTime<Utc>,
}

/// What to do with an event.
pub(super) enum Decision<'event> {
    Write(&'event Subscription),
    /// Ask Stripe for the state of the subscription and of the stored one.
    Ask,
    Skip(&'static str),
    /// The customer pays for a subscription that has no effect. An operator must end one.
    SecondSubscription(&'event Subscription),
}

/// Decides whether an event is new, by the time of the last applied event. That time cannot decide
/// within one second, which is Stripe's precision, nor for another subscription, which has its own
/// history. A replayed event may be older than events that had no effect, so Stripe is always
/// asked. `shown` is the subscription in the event, `read` is Stripe's answer if it was asked.
pub(super) fn decide<'event>(
    billing: &organization_billing::Model,
    event: &Event,
    subscription: &str,
    shown: Option<&'event Subscription>,
    read: Option<&'event Read>,
    is_replay: bool,
) -> Decision<'event> {
    let current = read.and_then(|read| read.subscription.as_ref());
    let known = read.and_then(|read| read.known.as_ref());
    // What the event shows is the last known state of a subscription that Stripe has forgotten.
    let last = || match (current.or(shown.filter(|_| !is_replay)), read) {
        (Some(subscription), _) => Decision::Write(subscription),
        (None, Some(_)) => Decision::Skip("Stripe does not know its subscription"),
        (None, None) => Decision::Ask,
    };
    match &billing.stripe_subscription_id {
        None if is_replay && read.is_none() => Decision::Ask,
        None => last(),
        Some(known) if *known == subscription => {
            let order = Some(event.created).cmp(&billing.stripe_event_at);
            if order == std::cmp::Ordering::Less && !is_replay {
                return Decision::Skip("a newer event was already applied");
            }
            // After Stripe has reported the end, only its answer can say otherwise.
            let has_ended = billing.status == SubscriptionStatus::Canceled;
            let newest = if read.is_some() { current } else { shown };
            if has_ended && newest.is_none_or(Subscription::has_ended) {
                return Decision::Skip("the subscription has ended permanently");
            }
            let is_unclear = has_ended || is_replay || order == std::cmp::Ordering::Equal;
            if is_unclear && read.is_none() { Decision::Ask } else { last() }
        }
        Some(_) => match current {
            None if read.is_none() && !shown.is_some_and(Subscription::has_ended) => Decision::Ask,
            Some(current) if is_live(status(current)) => {
                let is_second =
                    is_live(billing.status) && known.is_some_and(|known| is_live(status(known)));
                if is_second {
                    Decision::SecondSubscription(current)
                } else {
                    Decision::Write(current)
                }
            }
            _ => Decision::Skip("it concerns a subscription that is not the current one"),
        },
    }
}
