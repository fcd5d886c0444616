//! `audit.audit_logs`: the actions performed in an organization, and their actors. Append-only.

use sea_orm::entity::prelude::*;

use crate::{AuditLogId, OrganizationId, UserId};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_logs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub created_at: DateTimeUtc,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditLogId,
    pub actor_id: Option<UserId>,
    pub actor_name: Option<String>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<Uuid>,
    #[sea_orm(column_type = "JsonBinary")]
    pub metadata: Json,
    /// An `inet` in PostgreSQL, text here.
    #[sea_orm(select_as = "text", save_as = "inet")]
    pub ip_address: Option<String>,
}

impl Model {
    /// The address without the network length that PostgreSQL appends.
    #[must_use]
    pub fn ip_address(&self) -> Option<&str> {
        self.ip_address.as_deref().map(|text| text.split('/').next().unwrap_or(text))
    }
}

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
