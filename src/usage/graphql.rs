//! Entitlements as clients see them.

use async_graphql::{Context, Object, Subscription};
use chrono::{DateTime, Utc};

use super::ops;
use crate::{
    error::Result,
    graphql::{ContextExt, One, one, to_int},
    plan::Feature,
};

#[derive(Debug)]
pub struct Entitlement(pub ops::Entitlement);

/// What the organization's plan allows of a feature, and how much of it is used.
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

    /// How many the plan allows. Null: unlimited.
    async fn limit(&self) -> Option<i32> {
        self.0.allowance.limit.map(to_int)
    }

    /// How many are used. Open invitations use seats.
    async fn used(&self) -> i32 {
        to_int(self.0.used)
    }

    /// How many more are allowed, never negative. Null: unlimited.
    async fn remaining(&self) -> Option<i32> {
        self.0.allowance.limit.map(|limit| to_int((limit - self.0.used).max(0)))
    }

    /// More is used than the plan allows, as after a change to a smaller one. Nothing is deleted;
    /// creating is refused.
    async fn over_limit(&self) -> bool {
        self.0.allowance.limit.is_some_and(|limit| self.0.used > limit)
    }

    /// When counting starts again, for what is counted by the month. Null for what is not.
    async fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.0.resets_at
    }
}

/// Changes of what is allowed and used, as they happen.
#[derive(Debug, Default)]
pub struct UsageSubscription;

#[Subscription]
impl UsageSubscription {
    /// The plan allows more or less of a feature, or more or less of it is used. Calls of the month
    /// are not told: they are in the headers of every answer.
    async fn entitlement_changed(&self, ctx: &Context<'_>) -> Result<One<Entitlement>> {
        Ok(one(Entitlement(*ctx.event::<ops::Entitlement>()?)))
    }
}
