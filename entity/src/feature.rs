//! `billing.features`: the catalogue of features that plans include and limit.

use sea_orm::entity::prelude::*;

/// The enum `billing.feature_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(
    rs_type = "String",
    db_type = "Enum",
    enum_name = "feature_kind",
    rename_all = "snake_case"
)]
pub enum FeatureKind {
    /// Included or not.
    Flag,
    /// A number of rows.
    Count,
    /// Usage that is counted in periods.
    Meter,
}

/// The enum `billing.feature_period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(
    rs_type = "String",
    db_type = "Enum",
    enum_name = "feature_period",
    rename_all = "snake_case"
)]
pub enum FeaturePeriod {
    /// A calendar month in UTC.
    Month,
    /// The billing period of the organization.
    BillingPeriod,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "features")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub feature: String,
    pub kind: FeatureKind,
    pub name: String,
    pub unit: Option<String>,
    pub description: Option<String>,
    /// Not null for meters only.
    pub period: Option<FeaturePeriod>,
    pub position: i32,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
