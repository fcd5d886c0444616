//! Members as clients see them.

use async_graphql::{Context, Enum, ID, Object};
use chrono::{DateTime, Utc};
use entity::{OrgRole, organization_member};

use super::ops;
use crate::{
    error::Result,
    graphql::{Connection, ContextExt, to_int},
    user::{User, UserById},
};

/// What a member is in an organization. Each role may do what the ones after it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "OrgRole")]
pub enum Role {
    /// Everything, ownership, money and the organization's end included. There is always one at least.
    Owner,
    /// Everything but what concerns admins, owners and money.
    Admin,
    /// Creates and updates projects.
    Member,
    /// Reads.
    Viewer,
}

#[derive(Debug)]
pub struct Member(pub organization_member::Model);

impl From<organization_member::Model> for Member {
    fn from(row: organization_member::Model) -> Self {
        Self(row)
    }
}

/// A person's seat in the current organization.
#[Object]
impl Member {
    /// The seat's id, which is not the person's.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The person. Null only in the answer to their removal.
    async fn user(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        ctx.load(UserById(self.0.user_id)).await.map(|row| row.map(User)).transpose()
    }

    /// What the person is in the organization.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// Who invited the person. Null for the founder, and when the inviter has left.
    async fn invited_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        let id = self.0.invited_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User)).transpose()
    }

    /// When the person joined.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.0.joined_at
    }

    /// When the seat last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// A page of members.
pub type MemberConnection = Connection<Member, MemberTotal>;

/// What the connection of members adds to a page.
#[derive(Debug)]
pub struct MemberTotal;

#[Object]
impl MemberTotal {
    /// How many there are in all, on whatever page. Counted only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}
