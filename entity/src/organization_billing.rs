//! `billing.organization_billing`: the plan and subscription of an organization. The row is the
//! organization's lock.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

use crate::OrganizationId;

/// The enum `billing.subscription_status`, in Stripe's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Deserialize)]
#[sea_orm(
    rs_type = "String",
    db_type = "Enum",
    enum_name = "subscription_status",
    rename_all = "snake_case"
)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
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
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
