//! What billing contributes to the API.

use super::{graphql::BillingOfOrganization, mutation_graphql::BillingMutation};
use crate::{
    action::{Action, actions},
    area::Area,
    graphql::NoFields,
    permission::{Permission, permissions},
};

permissions! {
    /// Read the billing state.
    BillingRead = "BILLING_READ" from Admin;
    /// Change the plan, trial and subscription; open checkout and portal.
    BillingManage = "BILLING_MANAGE" from Owner;
}

actions! {
    /// The plan was changed.
    BillingPlanChanged = "billing.plan_changed"
        with "old and new `plan` and `status`, and the Stripe `event`, if any";
    /// A trial began.
    BillingTrialStarted = "billing.trial_started" with "`plan`, `trial_ends_at`";
    /// The subscription will end with its period.
    BillingSubscriptionCanceled = "billing.subscription_canceled" with "`plan`, `period_end`";
    /// The cancellation was revoked.
    BillingSubscriptionResumed = "billing.subscription_resumed" with "`plan`";
    /// A checkout at Stripe was started.
    BillingCheckoutStarted = "billing.checkout_started" with "`plan`, `price`";
    /// The billing portal at Stripe was opened.
    BillingPortalOpened = "billing.portal_opened" with "none";
    /// Stripe reported a change of the subscription, except of its plan.
    BillingSubscriptionUpdated = "billing.subscription_updated"
        with "`plan`, old and new `status`, `cancel_at_period_end`, `period_end`, `trial_ends_at`, `seats`, `collection_paused`, `paid_until`, the `event`, and an `unknown_price`";
    /// The operator made, changed or ended an exception to the plan.
    BillingEntitlementChanged = "billing.entitlement_changed"
        with "`feature`, old and new `value` (null without an exception), `valid_until`, `reason`";
    /// A subscription that is paid at Stripe has no effect.
    BillingSubscriptionIgnored = "billing.subscription_ignored"
        with "`subscription`, `price`, `event`";
    /// The customer was deleted at Stripe.
    BillingCustomerDeleted = "billing.customer_deleted" with "`customer`, `event`";
    /// The paid seats followed the team.
    BillingSeatsChanged = "billing.seats_changed" with "old and new `seats`";
}

/// The area.
#[derive(Debug)]
pub struct BillingArea;

impl Area for BillingArea {
    type Query = NoFields;
    type Mutation = BillingMutation;
    type Subscription = NoFields;
    type OrganizationFields = BillingOfOrganization;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;
}
