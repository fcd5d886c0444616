//! Billing as clients see it.

use async_graphql::{Enum, Object};
use chrono::{DateTime, Utc};
use entity::organization_billing;

/// Where a subscription stands, in Stripe's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::SubscriptionStatus")]
pub enum SubscriptionStatus {
    /// Paid, or free of charge.
    Active,
    /// On trial until `trialEndsAt`.
    Trialing,
    /// A payment failed; the plan is kept for a time of grace.
    PastDue,
    /// Ended: the default plan is in effect.
    Canceled,
    /// Payments failed for good: the default plan is in effect.
    Unpaid,
    /// The first payment is open.
    Incomplete,
    /// The first payment never came: the default plan is in effect.
    IncompleteExpired,
    /// Collection is paused.
    Paused,
}

#[derive(Debug)]
pub struct Billing(pub organization_billing::Model);

/// The state of an organization's subscription. What it may use is told by `Organization.plan`.
#[Object]
impl Billing {
    /// Where the subscription stands.
    async fn status(&self) -> SubscriptionStatus {
        self.0.status.into()
    }

    /// The key of the plan that was subscribed to; the one in effect may be another: see `Organization.plan`.
    async fn plan(&self) -> &str {
        &self.0.plan
    }

    /// When the paid period began. Null without one.
    async fn period_start(&self) -> Option<DateTime<Utc>> {
        self.0.period_start
    }

    /// When the paid period ends. Null without one.
    async fn period_end(&self) -> Option<DateTime<Utc>> {
        self.0.period_end
    }

    /// When the trial ends. Null without one.
    async fn trial_ends_at(&self) -> Option<DateTime<Utc>> {
        self.0.trial_ends_at
    }

    /// The subscription ends with the paid period.
    async fn cancel_at_period_end(&self) -> bool {
        self.0.cancel_at_period_end
    }
}
