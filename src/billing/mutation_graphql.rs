//! The mutations of billing in the GraphQL API.

use ::stripe::Hosted;
use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{
    graphql::Billing,
    ops,
    order::Wish,
    stripe::{self, Order, ReturnPath},
};
use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::{
        ContextExt, MutationTarget, allowed_over_call_limit, alone, parse_id, requires_permission,
    },
    plan::PriceInterval,
    tenancy::Session,
};

/// Input of `changePlan`.
#[derive(Debug, InputObject)]
pub struct ChangePlanInput {
    /// The key of the new plan, for example `pro`. `plans` lists the keys.
    pub plan: String,
}

/// Payload of `changePlan`.
#[derive(Debug, SimpleObject)]
pub struct ChangePlanPayload {
    /// The new state of billing.
    pub billing: Billing,
}

/// Input of `startTrial`.
#[derive(Debug, InputObject)]
pub struct StartTrialInput {
    /// The key of the plan to try, for example `pro`. `plans` lists the keys.
    pub plan: String,
}

/// Payload of `startTrial`.
#[derive(Debug, SimpleObject)]
pub struct StartTrialPayload {
    /// The new state of billing.
    pub billing: Billing,
}

/// Input of `cancelSubscription`.
#[derive(Debug, InputObject)]
pub struct CancelSubscriptionInput {
    /// The ID of the current organization. It prevents a cancellation in the wrong organization.
    pub organization_id: ID,
}

/// Payload of `cancelSubscription`.
#[derive(Debug, SimpleObject)]
pub struct CancelSubscriptionPayload {
    /// The new state of billing.
    pub billing: Billing,
}

/// Input of `resumeSubscription`.
#[derive(Debug, InputObject)]
pub struct ResumeSubscriptionInput {
    /// The ID of the current organization.
    pub organization_id: ID,
}

/// Payload of `resumeSubscription`.
#[derive(Debug, SimpleObject)]
pub struct ResumeSubscriptionPayload {
    /// The new state of billing.
    pub billing: Billing,
}

/// The mutations of billing.
#[derive(Debug, Default)]
pub struct BillingMutation;

#[Object]
impl BillingMutation {
    /// Changes the plan of the current organization immediately. Owners only.
    ///
    /// If usage exceeds the limits of the new plan, nothing is deleted. Creating more is refused,
    /// and `Entitlement.overLimit` is true.
    ///
    /// Errors: `CONFLICT` if Stripe manages subscriptions; `BAD_USER_INPUT` if the plan does not
    /// exist.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = allowed_over_call_limit::apply()
    )]
    async fn change_plan(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new plan.")] input: ChangePlanInput,
    ) -> Result<ChangePlanPayload> {
        let billing = ops::change_plan(ctx.session()?, &input.plan).await?;
        Ok(ChangePlanPayload { billing: Billing(billing) })
    }

    /// Starts a trial of a plan. The default plan takes effect again when the trial ends. Owners
    /// only.
    ///
    /// Errors: `CONFLICT` if the organization already had a trial, has a plan other than the
    /// default, or if Stripe manages subscriptions; `BAD_USER_INPUT` if the plan does not exist or
    /// is the default.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = allowed_over_call_limit::apply()
    )]
    async fn start_trial(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The plan to try.")] input: StartTrialInput,
    ) -> Result<StartTrialPayload> {
        let billing = ops::start_trial(ctx.session()?, &input.plan).await?;
        Ok(StartTrialPayload { billing: Billing(billing) })
    }

    /// Cancels the subscription or trial at the end of its period. The plan stays in effect until
    /// then. Owners only.
    ///
    /// If the subscription has already ended at Stripe, its state is returned.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` without a subscription, or if it
    /// can only be canceled in the billing portal; `NOT_FOUND` if `organizationId` is not the
    /// current organization; `UNAVAILABLE` if Stripe does not respond.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = alone::apply(MutationTarget::Requested),
        directive = allowed_over_call_limit::apply()
    )]
    async fn cancel_subscription(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The current organization, as a confirmation.")]
        input: CancelSubscriptionInput,
    ) -> Result<CancelSubscriptionPayload> {
        let session = ctx.session()?;
        confirm(session, &input.organization_id)?;
        Ok(CancelSubscriptionPayload { billing: Billing(ops::cancel(session).await?) })
    }

    /// Withdraws a cancellation before it takes effect. Owners only.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` if the subscription has ended, or
    /// can only be resumed in the billing portal; `NOT_FOUND` if `organizationId` is not the
    /// current organization; `UNAVAILABLE` if Stripe does not respond.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = alone::apply(MutationTarget::Requested),
        directive = allowed_over_call_limit::apply()
    )]
    async fn resume_subscription(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The current organization, as a confirmation.")]
        input: ResumeSubscriptionInput,
    ) -> Result<ResumeSubscriptionPayload> {
        let session = ctx.session()?;
        confirm(session, &input.organization_id)?;
        Ok(ResumeSubscriptionPayload { billing: Billing(ops::resume(session).await?) })
    }

    /// Creates a Stripe page where an owner subscribes to a plan. The plan changes when Stripe
    /// reports the payment. Owners only.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` if the organization has a live
    /// subscription or has had its trial, or if Stripe does not sell the price now or does not
    /// manage subscriptions; `BAD_USER_INPUT` if the plan does not exist or has no such price, or
    /// for fewer seats than the team takes; `UNAVAILABLE` if Stripe does not respond.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = alone::apply(MutationTarget::Requested),
        directive = allowed_over_call_limit::apply()
    )]
    async fn create_checkout_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The plan, and the paths to return to.")]
        input: CreateCheckoutSessionInput,
    ) -> Result<CreateCheckoutSessionPayload> {
        let session = ctx.session()?;
        session.authorize(Permission::BillingManage)?;
        let order = Order {
            wish: Wish {
                plan: input.plan,
                interval: input.interval.map(Into::into),
                price: input.price_id.map(|id| id.0),
                seats: input.seats,
            },
            trial: input.trial,
            success: ReturnPath::parse("input.successPath", input.success_path)?,
            cancel: ReturnPath::parse("input.cancelPath", input.cancel_path)?,
        };
        let Hosted { id, url } = stripe::create_checkout_session(session, &order).await?;
        Ok(CreateCheckoutSessionPayload {
            checkout_session: CheckoutSession { id: id.into(), url },
        })
    }

    /// Creates a Stripe page where an owner manages payment methods, invoices and the subscription.
    /// Owners only.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` before the first checkout, or if
    /// Stripe does not manage subscriptions; `UNAVAILABLE` if Stripe does not respond.
    #[graphql(
        directive = requires_permission::apply(Permission::BillingManage),
        directive = alone::apply(MutationTarget::Requested),
        directive = allowed_over_call_limit::apply()
    )]
    async fn create_billing_portal_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The path to return to.")] input: CreateBillingPortalSessionInput,
    ) -> Result<CreateBillingPortalSessionPayload> {
        let session = ctx.session()?;
        session.authorize(Permission::BillingManage)?;
        let back = ReturnPath::parse("input.returnPath", input.return_path)?;
        let Hosted { id, url } = stripe::create_portal_session(session, &back).await?;
        let billing_portal_session = BillingPortalSession { id: id.into(), url };
        Ok(CreateBillingPortalSessionPayload { billing_portal_session })
    }
}

/// Input of `createCheckoutSession`. Either `plan` or `priceId` is required.
#[derive(Debug, InputObject)]
pub struct CreateCheckoutSessionInput {
    /// The key of the plan, for example `pro`. `plans` lists the keys. Omit it with `priceId`.
    pub plan: Option<String>,
    /// How often to pay for the plan. Without it, each month if the plan has a monthly price.
    pub interval: Option<PriceInterval>,
    /// The ID of one of `Plan.prices`, instead of `plan`.
    pub price_id: Option<ID>,
    /// The number of seats, if the operator lets owners choose it. Defaults to the size of the
    /// team.
    pub seats: Option<i32>,
    /// Whether to begin with a trial, without payment. An organization can have one trial.
    #[graphql(default)]
    pub trial: bool,
    /// The path of your application that Stripe returns to after payment. At most 1,000 characters.
    #[graphql(default = "/billing")]
    pub success_path: String,
    /// The path of your application that Stripe returns to if the owner cancels. At most 1,000
    /// characters.
    #[graphql(default = "/billing")]
    pub cancel_path: String,
}

/// A Stripe page where an owner subscribes to a plan. It expires after 24 hours.
#[derive(Debug, SimpleObject)]
pub struct CheckoutSession {
    /// Stripe's ID of the session.
    pub id: ID,
    /// The URL to open in the browser.
    pub url: String,
}

/// Payload of `createCheckoutSession`.
#[derive(Debug, SimpleObject)]
pub struct CreateCheckoutSessionPayload {
    /// The page to open.
    pub checkout_session: CheckoutSession,
}

/// Input of `createBillingPortalSession`.
#[derive(Debug, InputObject)]
pub struct CreateBillingPortalSessionInput {
    /// The path of your application that Stripe returns to. At most 1,000 characters.
    #[graphql(default = "/billing")]
    pub return_path: String,
}

/// A Stripe page where an owner manages payment methods, invoices and the subscription. It expires
/// after a few minutes.
#[derive(Debug, SimpleObject)]
pub struct BillingPortalSession {
    /// Stripe's ID of the session.
    pub id: ID,
    /// The URL to open in the browser.
    pub url: String,
}

/// Payload of `createBillingPortalSession`.
#[derive(Debug, SimpleObject)]
pub struct CreateBillingPortalSessionPayload {
    /// The page to open.
    pub billing_portal_session: BillingPortalSession,
}

/// Checks that the input names the current organization.
fn confirm(session: &Session, id: &ID) -> Result<()> {
    let tenant = session.authorize(Permission::BillingManage)?;
    if parse_id(id) == Some(tenant.organization_id) {
        Ok(())
    } else {
        Err(Error::NotFound("organization"))
    }
}
