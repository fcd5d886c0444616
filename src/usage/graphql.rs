//! Usage in the GraphQL API: entitlements, the subscription to them, and the meters of a team's
//! features.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject, Subscription};
use chrono::{DateTime, Utc};

use super::{
    Meter,
    entitlement::{self, entitlements},
    metering::{self, Event, Excess},
};
use crate::{
    auth::Permission,
    calendar::{check_year, month_of},
    error::{Error, Result},
    graphql::{BigInt, ContextExt, One, STATEMENT, list_cost, on_change, one, requires_permission},
    plan::{ENTITLEMENTS, Feature},
};

#[derive(Debug)]
pub struct Entitlement(pub entitlement::Entitlement);

/// Where an entitlement comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum EntitlementSource {
    /// The plan in effect.
    Plan,
    /// An exception that the operator made for the organization.
    Override,
}

/// What the organization may use of a feature, and how much of it is used.
#[Object]
impl Entitlement {
    /// The feature.
    async fn feature(&self) -> Feature {
        Feature(self.0.feature.clone())
    }

    /// Whether the feature is included.
    async fn enabled(&self) -> bool {
        self.0.allowance.enabled
    }

    /// The number that is allowed. 0 if the feature is not included. Null if unlimited, and for
    /// included flags. For team members, no more than `Billing.seats` where owners buy seats.
    async fn limit(&self) -> Option<BigInt> {
        self.0.allowance.limit.map(BigInt)
    }

    /// The number in use. For team members, open invitations count as well. Null for flags, and for
    /// features that the server does not count.
    async fn used(&self) -> Option<BigInt> {
        self.0.used.map(BigInt)
    }

    /// The number still available, never negative. Null if `limit` or `used` is.
    async fn remaining(&self) -> Option<BigInt> {
        Some(BigInt((self.0.allowance.limit? - self.0.used?).max(0)))
    }

    /// Whether more is used than allowed, for example after a downgrade. Nothing is deleted, but
    /// creating more is refused.
    async fn over_limit(&self) -> bool {
        self.0.allowance.limit.zip(self.0.used).is_some_and(|(limit, used)| used > limit)
    }

    /// When the count restarts. Null for features that are not meters.
    async fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.0.resets_at
    }

    /// Where the entitlement comes from.
    async fn source(&self) -> EntitlementSource {
        if self.0.allowance.is_override {
            EntitlementSource::Override
        } else {
            EntitlementSource::Plan
        }
    }

    /// When the exception ends, and the plan applies again. Null without an exception, and for one
    /// without an end.
    async fn valid_until(&self) -> Option<DateTime<Utc>> {
        self.0.allowance.valid_until
    }
}

/// The usage of a meter in one period.
#[derive(Debug, SimpleObject)]
pub struct UsagePeriod {
    /// The start of the period.
    pub start: DateTime<Utc>,
    /// The end of the period, which is not part of it. A billing period can end earlier, with a
    /// change of the subscription.
    pub end: DateTime<Utc>,
    /// The number that was counted.
    pub used: BigInt,
    /// The usage of each day since `start`, oldest first: of 24 hours, in UTC if the period is a
    /// month. Ends with the last day that has usage. The sum is `used`. API calls count on the day
    /// on which a server leases them or, without a limit, writes them.
    pub days: Vec<BigInt>,
}

fn meter<'context>(ctx: &'context Context<'_>) -> Result<&'context Meter> {
    ctx.data::<Meter>().map_err(|_| Error::internal("the request has no usage meter"))
}

/// Usage as fields of `Organization`.
#[derive(Debug, Default)]
pub struct UsageOfOrganization;

#[Object]
impl UsageOfOrganization {
    /// The limit and the current usage of every feature.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn entitlements(&self, ctx: &Context<'_>) -> Result<Vec<Entitlement>> {
        let entitlements = entitlements(ctx.session()?, meter(ctx)?, None).await?;
        Ok(entitlements.list.into_iter().map(Entitlement).collect())
    }

    /// The limit and the current usage of one feature. Null if the catalogue has no such feature.
    #[graphql(complexity = "4 * STATEMENT + child_complexity")]
    async fn entitlement(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key of the feature, for example `projects`.")] feature: String,
    ) -> Option<Result<Entitlement>> {
        let entitlement = async {
            let mut found = entitlements(ctx.session()?, meter(ctx)?, Some(&feature)).await?;
            Ok(found.list.pop().map(Entitlement))
        };
        entitlement.await.transpose()
    }

    /// The usage of a meter by period, newest first, at most 100. Periods without usage are left
    /// out.
    #[graphql(complexity = "list_cost(12, child_complexity)")]
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key of the feature, for example `api_calls_per_month`.")]
        feature: String,
        #[graphql(desc = "Only periods that start at this time or later.")] from: Option<
            DateTime<Utc>,
        >,
        #[graphql(desc = "Only periods that start before this time.")] to: Option<DateTime<Utc>>,
    ) -> Result<Vec<UsagePeriod>> {
        let (from, to) = (check_year("from", from)?, check_year("to", to)?);
        let periods = metering::periods(ctx.session()?, meter(ctx)?, &feature, from, to).await?;
        let period = |row: entity::usage::Model| UsagePeriod {
            start: row.period_start,
            // Without a recorded end, it is a month.
            end: row.period_end.unwrap_or_else(|| month_of(row.period_start).1),
            used: BigInt(row.used),
            days: row.days.into_iter().map(BigInt).collect(),
        };
        Ok(periods.into_iter().map(period).collect())
    }
}

/// Input of `consumeUsage`.
#[derive(Debug, InputObject)]
pub struct ConsumeUsageInput {
    /// The key of a meter, for example `exports`.
    pub feature: String,
    /// The number to count, at least 1.
    pub amount: BigInt,
    /// Names the usage, so that a repetition within 24 hours counts it once. 1 to 255 bytes, for
    /// example a UUID.
    pub idempotency_key: Option<String>,
}

/// Payload of `consumeUsage`.
#[derive(Debug, SimpleObject)]
pub struct ConsumeUsagePayload {
    /// The entitlement after the usage was counted.
    pub entitlement: Entitlement,
}

/// Input of `recordUsage`.
#[derive(Debug, InputObject)]
pub struct RecordUsageInput {
    /// The key of a meter, for example `exports`.
    pub feature: String,
    /// The number to count, at least 1.
    pub amount: BigInt,
    /// Names the usage, so that a repetition within 24 hours counts it once. 1 to 255 bytes, for
    /// example a UUID.
    pub idempotency_key: Option<String>,
}

/// Payload of `recordUsage`.
#[derive(Debug, SimpleObject)]
pub struct RecordUsagePayload {
    /// The entitlement after the usage was counted.
    pub entitlement: Entitlement,
}

/// The mutations of usage.
#[derive(Debug, Default)]
pub struct UsageMutation;

#[Object]
impl UsageMutation {
    /// Counts usage of a meter in the current period, before your application provides what is
    /// used. Refuses usage that would exceed the limit, and counts nothing of it. Admins and up.
    ///
    /// Concurrent requests to any number of servers together never exceed the limit. Errors:
    /// `PLAN_LIMIT_EXCEEDED` with `extensions.feature` and `extensions.limit`; `BAD_USER_INPUT` if
    /// the feature is not a meter that applications count; `CONFLICT` if the idempotency key was
    /// used with another amount.
    #[graphql(directive = requires_permission::apply(Permission::UsageRecord))]
    async fn consume_usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The usage.")] input: ConsumeUsageInput,
    ) -> Result<ConsumeUsagePayload> {
        let event = Event::parse(input.feature, input.amount.0, input.idempotency_key)?;
        let entitlement = metering::count(ctx.session()?, &event, Excess::Refuse).await?;
        Ok(ConsumeUsagePayload { entitlement: Entitlement(entitlement) })
    }

    /// Counts usage of a meter that has happened already, also beyond the limit. Then
    /// `Entitlement.overLimit` is true. Admins and up.
    ///
    /// Errors: `BAD_USER_INPUT` if the feature is not a meter that applications count; `CONFLICT`
    /// if the idempotency key was used with another amount.
    #[graphql(directive = requires_permission::apply(Permission::UsageRecord))]
    async fn record_usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The usage.")] input: RecordUsageInput,
    ) -> Result<RecordUsagePayload> {
        let event = Event::parse(input.feature, input.amount.0, input.idempotency_key)?;
        let entitlement = metering::count(ctx.session()?, &event, Excess::Count).await?;
        Ok(RecordUsagePayload { entitlement: Entitlement(entitlement) })
    }
}

/// Events about entitlements.
#[derive(Debug, Default)]
pub struct UsageSubscription;

#[Subscription]
impl UsageSubscription {
    /// Sends an event when the organization may use more or less of a feature, or when its usage
    /// changes. The cause can be a change of billing, of an exception or of the catalogue of plans,
    /// or the end of a trial or an exception. Neither an invitation that expires nor the usage of
    /// meters causes an event: every response reports API calls in its headers.
    #[graphql(directive = on_change::apply(ENTITLEMENTS.to_owned()))]
    async fn entitlement_changed(&self, ctx: &Context<'_>) -> Result<One<Entitlement>> {
        Ok(one(Entitlement(ctx.event::<entitlement::Entitlement>()?.clone())))
    }
}
