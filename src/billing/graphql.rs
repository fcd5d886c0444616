//! Billing as clients see it.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::organization_billing;

use super::{
    ops,
    stripe::{self, Order, ReturnPath},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::{ContextExt, parse_id, requires_permission},
    stripe::Hosted,
    tenancy::{Session, UnitOfWork},
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
    /// The first payment is open: until it is made the plan stays as it was.
    Incomplete,
    /// The first payment never came: the default plan is in effect.
    IncompleteExpired,
    /// The trial ended without a way to pay; after that the default plan is in effect.
    Paused,
}

/// Who keeps subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum BillingProvider {
    /// Nobody: owners use `changePlan` and `startTrial`, free of charge.
    Manual,
    /// Stripe: owners use `createCheckoutSession` and `createBillingPortalSession`.
    Stripe,
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

    /// The key of the plan that was subscribed to; the one in effect may be another: see
    /// `Organization.plan`.
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

    /// When the trial ends, or ended. Null when there was none.
    async fn trial_ends_at(&self) -> Option<DateTime<Utc>> {
        self.0.trial_ends_at
    }

    /// The subscription ends with the paid period.
    async fn cancel_at_period_end(&self) -> bool {
        self.0.cancel_at_period_end
    }

    /// Who keeps subscriptions here, and so which mutations to offer.
    async fn provider(&self, ctx: &Context<'_>) -> Result<BillingProvider> {
        let stripe = ctx.session()?.business().stripe.is_some();
        Ok(if stripe { BillingProvider::Stripe } else { BillingProvider::Manual })
    }

    /// The organization has not had its trial yet.
    async fn trial_available(&self) -> bool {
        self.0.trial_ends_at.is_none()
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
    /// Puts the current organization on another plan, at once. Owners. `CONFLICT` where Stripe
    /// keeps the subscriptions. When the plan allows less than is used, nothing is deleted:
    /// creating more is refused, and `Entitlement.overLimit` says so.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn change_plan(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which plan to have.")] input: ChangePlanInput,
    ) -> Result<ChangePlanPayload> {
        let billing = ops::change_plan(ctx.session()?, &input.plan).await?;
        Ok(ChangePlanPayload { billing: Billing(billing) })
    }

    /// Starts a trial of a plan. Owners. Afterwards the default plan is in effect again. `CONFLICT`
    /// for a second trial, for an organization that has a plan other than the default one, and
    /// where Stripe keeps the subscriptions.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn start_trial(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which plan to try.")] input: StartTrialInput,
    ) -> Result<StartTrialPayload> {
        let billing = ops::start_trial(ctx.session()?, &input.plan).await?;
        Ok(StartTrialPayload { billing: Billing(billing) })
    }

    /// Lets the subscription, or the trial, end with its period: until then the plan is kept.
    /// Owners. `CONFLICT` without a subscription. Must be the only field of its operation.
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
    /// Must be the only field of its operation.
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

    /// Makes a page at Stripe's on which to subscribe to a plan; the plan changes when Stripe tells
    /// us of the payment. Owners. `CONFLICT` with a live subscription, for a second trial, and
    /// where billing is manual; `UNAVAILABLE` when Stripe does not answer. Must be the only field
    /// of its operation.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn create_checkout_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to subscribe to, and where to come back to.")]
        input: CreateCheckoutSessionInput,
    ) -> Result<CreateCheckoutSessionPayload> {
        let session = ctx.session()?;
        session.authorize(Permission::BillingManage)?;
        let order = Order {
            plan: input.plan,
            trial: input.trial,
            success: ReturnPath::parse("input.successPath", input.success_path)?,
            cancel: ReturnPath::parse("input.cancelPath", input.cancel_path)?,
        };
        let Hosted { id, url } = stripe::create_checkout_session(session, &order).await?;
        Ok(CreateCheckoutSessionPayload {
            checkout_session: CheckoutSession { id: id.into(), url },
        })
    }

    /// Makes a page at Stripe's on which to look after cards, invoices and the subscription.
    /// Owners. `CONFLICT` before the first checkout, and where billing is manual; `UNAVAILABLE`
    /// when Stripe does not answer. Must be the only field of its operation.
    #[graphql(directive = requires_permission::apply(Permission::BillingManage))]
    async fn create_billing_portal_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where to come back to.")] input: CreateBillingPortalSessionInput,
    ) -> Result<CreateBillingPortalSessionPayload> {
        let session = ctx.session()?;
        session.authorize(Permission::BillingManage)?;
        let back = ReturnPath::parse("input.returnPath", input.return_path)?;
        let Hosted { id, url } = stripe::create_portal_session(session, &back).await?;
        let billing_portal_session = BillingPortalSession { id: id.into(), url };
        Ok(CreateBillingPortalSessionPayload { billing_portal_session })
    }
}

/// What to subscribe to, and where to come back to.
#[derive(Debug, InputObject)]
pub struct CreateCheckoutSessionInput {
    /// The plan's key, for example `pro`: see `plans`.
    pub plan: String,
    /// Begin with a trial, without payment. An organization has one trial only.
    #[graphql(default)]
    pub trial: bool,
    /// The path of your application to come back to after payment; 1,000 characters at the most.
    #[graphql(default = "/billing")]
    pub success_path: String,
    /// The path of your application to come back to without payment; 1,000 characters at the most.
    #[graphql(default = "/billing")]
    pub cancel_path: String,
}

/// A page at Stripe's on which to subscribe. It is good for a day.
#[derive(Debug, SimpleObject)]
pub struct CheckoutSession {
    /// Stripe's id of it.
    pub id: ID,
    /// Where to send the browser.
    pub url: String,
}

/// The page to go to.
#[derive(Debug, SimpleObject)]
pub struct CreateCheckoutSessionPayload {
    /// The page to go to.
    pub checkout_session: CheckoutSession,
}

/// Where to come back to.
#[derive(Debug, InputObject)]
pub struct CreateBillingPortalSessionInput {
    /// The path of your application to come back to; 1,000 characters at the most.
    #[graphql(default = "/billing")]
    pub return_path: String,
}

/// A page at Stripe's on which to look after cards, invoices and the subscription. It is good for
/// minutes.
#[derive(Debug, SimpleObject)]
pub struct BillingPortalSession {
    /// Stripe's id of it.
    pub id: ID,
    /// Where to send the browser.
    pub url: String,
}

/// The page to go to.
#[derive(Debug, SimpleObject)]
pub struct CreateBillingPortalSessionPayload {
    /// The page to go to.
    pub billing_portal_session: BillingPortalSession,
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
