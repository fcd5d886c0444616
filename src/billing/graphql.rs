//! Billing in the GraphQL API: the state of the subscription.

use async_graphql::{Context, Enum, Object};
use chrono::{DateTime, Utc};
use entity::organization_billing;

use super::{Settings, ops};
use crate::{
    auth::Permission,
    error::Result,
    graphql::{ContextExt, STATEMENT, requires_permission},
    plan::{Plan, plan_by_key},
    tenancy::UnitOfWork,
};

/// The status of a subscription, in Stripe's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::SubscriptionStatus")]
pub enum SubscriptionStatus {
    /// The subscription is paid or free of charge.
    Active,
    /// The trial runs until `trialEndsAt`.
    Trialing,
    /// A payment failed. The plan stays in effect during a grace period.
    PastDue,
    /// The subscription has ended. The default plan is in effect.
    Canceled,
    /// Stripe gave up collecting a payment. The default plan is in effect.
    Unpaid,
    /// The first payment is pending. The former plan stays in effect until it succeeds.
    Incomplete,
    /// The first payment was not made in time. The default plan is in effect.
    IncompleteExpired,
    /// The trial ended without a payment method. From then on the default plan is in effect.
    Paused,
}

/// The system that manages subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum BillingProvider {
    /// No payment provider. Owners use `changePlan` and `startTrial`, free of charge.
    Manual,
    /// Stripe. Owners use `createCheckoutSession` and `createBillingPortalSession`.
    Stripe,
}

#[derive(Debug)]
pub struct Billing(pub organization_billing::Model);

/// The state of an organization's subscription. The plan in effect is `Organization.plan`.
#[Object]
impl Billing {
    /// The status of the subscription.
    async fn status(&self) -> SubscriptionStatus {
        self.0.status.into()
    }

    /// The subscribed plan. A different plan may be in effect: see `Organization.plan`.
    #[graphql(complexity = "STATEMENT + child_complexity")]
    async fn plan(&self, ctx: &Context<'_>) -> Result<Plan> {
        plan_by_key(ctx, &self.0.plan).await
    }

    /// When the current billing period began. Null without a billing period.
    async fn period_start(&self) -> Option<DateTime<Utc>> {
        self.0.period_start
    }

    /// When the current billing period ends. Null without a billing period.
    async fn period_end(&self) -> Option<DateTime<Utc>> {
        self.0.period_end
    }

    /// When the trial ends or ended. Null if the organization never had a trial.
    async fn trial_ends_at(&self) -> Option<DateTime<Utc>> {
        self.0.trial_ends_at
    }

    /// Whether the subscription ends with the current billing period.
    async fn cancel_at_period_end(&self) -> bool {
        self.0.cancel_at_period_end
    }

    /// The number of paid seats. Null if the subscription's price is not per seat.
    async fn seats(&self) -> Option<i32> {
        self.0.seats
    }

    /// Whether the collection of payments is paused at Stripe.
    async fn collection_paused(&self) -> bool {
        self.0.collection_paused
    }

    /// When the last paid period ends, while Stripe voids the invoices of later periods. Then the
    /// default plan takes effect. Null otherwise.
    async fn paid_until(&self) -> Option<DateTime<Utc>> {
        self.0.paid_until
    }

    /// The system that manages subscriptions. It decides which mutations are available.
    async fn provider(&self, ctx: &Context<'_>) -> Result<BillingProvider> {
        let stripe = ctx.session()?.settings().area::<Settings>()?.stripe.is_some();
        Ok(if stripe { BillingProvider::Stripe } else { BillingProvider::Manual })
    }

    /// Whether the organization can still start its one trial.
    async fn trial_available(&self) -> bool {
        self.0.trial_ends_at.is_none()
    }
}

/// Billing as a field of `Organization`.
#[derive(Debug, Default)]
pub struct BillingOfOrganization;

#[Object]
impl BillingOfOrganization {
    /// The state of billing. Admins and owners only.
    #[graphql(
        complexity = "STATEMENT + child_complexity",
        directive = requires_permission::apply(Permission::BillingRead)
    )]
    async fn billing(&self, ctx: &Context<'_>) -> Option<Result<Billing>> {
        let billing = async { Ok(Billing(ops::get(ctx.session()?).await?)) };
        Some(billing.await)
    }
}
