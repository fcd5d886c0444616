//! Billing as clients see it.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::organization_billing;

use super::ops;
use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::{ContextExt, parse_id, requires_permission},
    tenancy::Session,
};

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

/// Which plan to have.
#[derive(Debug, InputObject)]
pub struct ChangePlanInput {
    /// The plan's key, for example `pro`: see `plans`.
    pub plan: String,
}

/// Billing as it is now.
#[derive(Debug, SimpleObject)]
pub struct ChangePlanPayload {
    /// The state of billing.
    pub billing: Billing,
}

/// Which plan to try.
#[derive(Debug, InputObject)]
pub struct StartTrialInput {
    /// The plan's key, for example `pro`: see `plans`.
    pub plan: String,
}

/// Billing as it is now.
#[derive(Debug, SimpleObject)]
pub struct StartTrialPayload {
    /// The state of billing.
    pub billing: Billing,
}

/// Whose subscription to cancel, named so that nobody cancels another one by mistake.
#[derive(Debug, InputObject)]
pub struct CancelSubscriptionInput {
    /// The current organization's id.
    pub organization_id: ID,
}

/// Billing as it is now.
#[derive(Debug, SimpleObject)]
pub struct CancelSubscriptionPayload {
    /// The state of billing.
    pub billing: Billing,
}

/// Whose subscription to resume.
#[derive(Debug, InputObject)]
pub struct ResumeSubscriptionInput {
    /// The current organization's id.
    pub organization_id: ID,
}

/// Billing as it is now.
#[derive(Debug, SimpleObject)]
pub struct ResumeSubscriptionPayload {
    /// The state of billing.
    pub billing: Billing,
}

/// Changes to billing.
#[derive(Debug, Default)]
pub struct BillingMutation;

#[Object]
impl BillingMutation {
    /// Puts the current organization on another plan, at once. Owners. When the plan allows less than is used, nothing is
    /// deleted: creating more is refused, and `Entitlement.overLimit` says so.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn change_plan(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which plan to have.")] input: ChangePlanInput,
    ) -> Result<ChangePlanPayload> {
        let billing = ops::change_plan(ctx.session()?, &input.plan).await?;
        Ok(ChangePlanPayload { billing: Billing(billing) })
    }

    /// Starts a trial of a plan. Owners. Afterwards the default plan is in effect again. `CONFLICT` for a second trial, and
    /// for an organization that has a plan other than the default one.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn start_trial(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which plan to try.")] input: StartTrialInput,
    ) -> Result<StartTrialPayload> {
        let billing = ops::start_trial(ctx.session()?, &input.plan).await?;
        Ok(StartTrialPayload { billing: Billing(billing) })
    }

    /// Lets the subscription, or the trial, end with its period: until then the plan is kept. Owners. `CONFLICT` without a
    /// subscription.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn cancel_subscription(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization: the current one.")] input: CancelSubscriptionInput,
    ) -> Result<CancelSubscriptionPayload> {
        let session = ctx.session()?;
        confirm(session, &input.organization_id)?;
        Ok(CancelSubscriptionPayload { billing: Billing(ops::cancel(session).await?) })
    }

    /// Calls the end of a canceled subscription off. Owners. `CONFLICT` when it has come already.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn resume_subscription(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization: the current one.")] input: ResumeSubscriptionInput,
    ) -> Result<ResumeSubscriptionPayload> {
        let session = ctx.session()?;
        confirm(session, &input.organization_id)?;
        Ok(ResumeSubscriptionPayload { billing: Billing(ops::resume(session).await?) })
    }
}

/// The organization that the input names is the one that the request is in.
fn confirm(session: &Session, id: &ID) -> Result<()> {
    let tenant = session.authorize(Permission::BillingManage)?;
    if parse_id(id) == Some(tenant.organization_id) {
        Ok(())
    } else {
        Err(Error::NotFound("organization"))
    }
}
