//! `auth.organization_members`: a person's seat and role in an organization.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

use crate::{MemberId, OrganizationId, UserId};

/// The enum `auth.org_role`, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "org_role", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OrgRole {
    /// Everything, the organization's end included.
    Owner,
    /// Everything but what concerns owners, admins and money.
    Admin,
    /// Creates and updates.
    Member,
    /// Reads.
    Viewer,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "organization_members")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MemberId,
    pub user_id: UserId,
    pub role: OrgRole,
    pub invited_by: Option<UserId>,
    pub joined_at: DateTimeUtc,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// Not used: rows are joined by dataloaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
