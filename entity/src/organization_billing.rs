//! `billing.organization_billing`: the plan and subscription of an organization. The row is the
//! organization's lock.

use sea_orm::entity::prelude::*;

use crate::OrganizationId;

/// The enum `billing.subscription_status`, in Stripe's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(
    rs_type = "String",
    db_type = "Enum",
    enum_name = "subscription_status",
    rename_all = "snake_case"
)]
pub enum SubscriptionStatus {
    /// Paid, or free of charge.
    Active,
    /// On trial until `trial_ends_at`.
    Trialing,
    /// A payment failed. The plan stays in effect during a grace period.
    PastDue,
    /// The subscription has ended.
    Canceled,
    /// Stripe gave up collecting a payment.
    Unpaid,
    /// The first payment is pending.
    Incomplete,
    /// The first payment was not made in time.
    IncompleteExpired,
    /// The trial ended without a payment method.
    Paused,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization_billing")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    pub stripe_customer_id: Option<String>,
    pub stripe_subscription_id: Option<String>,
    pub status: SubscriptionStatus,
    pub plan: String,
    pub period_start: Option<DateTimeUtc>,
    pub period_end: Option<DateTimeUtc>,
    pub trial_ends_at: Option<DateTimeUtc>,
    /// When the current overdue payment failed. Null if no payment is overdue.
    pub past_due_since: Option<DateTimeUtc>,
    /// The quantity of the subscription, if its price is per seat.
    pub seats: Option<i32>,
    pub collection_paused: bool,
    /// When the last paid period ends, while Stripe voids invoices.
    pub paid_until: Option<DateTimeUtc>,
    pub cancel_at_period_end: bool,
    pub stripe_event_at: Option<DateTimeUtc>,
    /// Whether exceptions may replace features of the plan.
    pub has_exceptions: bool,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// The columns that decide which plan is in effect, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanTerms {
    pub plan: String,
    pub status: SubscriptionStatus,
    pub has_subscription: bool,
    pub period_start: Option<DateTimeUtc>,
    pub period_end: Option<DateTimeUtc>,
    pub trial_ends_at: Option<DateTimeUtc>,
    pub cancel_at_period_end: bool,
    pub past_due_since: Option<DateTimeUtc>,
    pub paid_until: Option<DateTimeUtc>,
    pub has_exceptions: bool,
    pub updated_at: DateTimeUtc,
}

impl From<&Model> for PlanTerms {
    fn from(row: &Model) -> Self {
        Self {
            plan: row.plan.clone(),
            status: row.status,
            has_subscription: row.stripe_subscription_id.is_some(),
            period_start: row.period_start,
            period_end: row.period_end,
            trial_ends_at: row.trial_ends_at,
            cancel_at_period_end: row.cancel_at_period_end,
            past_due_since: row.past_due_since,
            paid_until: row.paid_until,
            has_exceptions: row.has_exceptions,
            updated_at: row.updated_at,
        }
    }
}

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
