//! `auth.organization_members`: the membership and role of a user in an organization.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

use crate::{MemberId, OrganizationId, UserId};

/// The enum `auth.org_role`, from the highest role to the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "org_role", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OrgRole {
    /// May do everything, including deleting the organization.
    Owner,
    /// May do everything except managing admins, owners and payments.
    Admin,
    /// May create and update.
    Member,
    /// May read.
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

/// Unused: dataloaders join rows.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
