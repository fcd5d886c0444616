//! `billing.plan_prices`: Stripe's prices, for sale or retired, and the plans that they buy.

use sea_orm::entity::prelude::*;

/// How often a price is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum PriceInterval {
    /// Each month.
    Month,
    /// Each year.
    Year,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plan_prices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub stripe_price_id: String,
    pub plan: String,
    pub interval: PriceInterval,
    pub currency: Option<String>,
    pub unit_amount: Option<i32>,
    pub per_seat: bool,
    pub for_sale: bool,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
