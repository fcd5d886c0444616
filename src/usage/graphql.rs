//! Usage in the GraphQL API: entitlements, and the subscription to them.

use async_graphql::{Context, Object, Subscription};
use chrono::{DateTime, Utc};

use super::ops;
use crate::{
    error::Result,
    graphql::{ContextExt, One, on_change, one, to_int},
    plan::{ENTITLEMENTS, Feature},
};

#[derive(Debug)]
pub struct Entitlement(pub ops::Entitlement);

/// How much of a feature the organization's plan allows, and how much of it is used.
#[Object]
impl Entitlement {
    /// The feature.
    async fn feature(&self) -> Feature {
        self.0.allowance.feature
    }

    /// Whether the plan includes the feature.
    async fn enabled(&self) -> bool {
        self.0.allowance.enabled
    }

    /// The number that the plan allows. Null means unlimited.
    async fn limit(&self) -> Option<i32> {
        self.0.allowance.limit.map(to_int)
    }

    /// The number in use. For team members, open invitations count as well.
    async fn used(&self) -> i32 {
        to_int(self.0.used)
    }

    /// The number still available, never negative. Null means unlimited.
    async fn remaining(&self) -> Option<i32> {
        self.0.allowance.limit.map(|limit| to_int((limit - self.0.used).max(0)))
    }

    /// Whether more is used than the plan allows, for example after a downgrade. Nothing is
    /// deleted, but creating more is refused.
    async fn over_limit(&self) -> bool {
        self.0.allowance.limit.is_some_and(|limit| self.0.used > limit)
    }

    /// When the count restarts, for features counted per month. Null for other features.
    async fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.0.resets_at
    }
}

/// Events about entitlements.
#[derive(Debug, Default)]
pub struct UsageSubscription;

#[Subscription]
impl UsageSubscription {
    /// Sends an event when the plan allows more or less of a feature, or when its usage changes.
    /// Monthly API calls cause no event: every response reports them in its headers.
    #[graphql(directive = on_change::apply(ENTITLEMENTS.to_owned()))]
    async fn entitlement_changed(&self, ctx: &Context<'_>) -> Result<One<Entitlement>> {
        Ok(one(Entitlement(*ctx.event::<ops::Entitlement>()?)))
    }
}
