//! Members as clients see them.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use entity::{MemberId, organization_member};

use super::{loader::MemberById, ops};
use crate::{
    auth::{Permission, Role},
    error::{Error, Result},
    graphql::{Connection, ContextExt, One, STATEMENT, one, parse_id, requires_permission, to_int},
    user::{User, UserById},
};

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
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}

/// A member, and what they are to be.
#[derive(Debug, InputObject)]
pub struct UpdateMemberRoleInput {
    /// The seat's id: `Member.id`.
    pub id: ID,
    /// The new role.
    pub role: Role,
}

/// The member as they are now.
#[derive(Debug, SimpleObject)]
pub struct UpdateMemberRolePayload {
    /// The changed member.
    pub member: Member,
}

/// A member to remove.
#[derive(Debug, InputObject)]
pub struct RemoveMemberInput {
    /// The seat's id: `Member.id`.
    pub id: ID,
}

/// The seat that is gone.
#[derive(Debug, SimpleObject)]
pub struct RemoveMemberPayload {
    /// The seat as it was.
    pub member: Member,
}

/// The organization to leave, named so that nobody leaves another one by mistake.
#[derive(Debug, InputObject)]
pub struct LeaveOrganizationInput {
    /// The current organization's id.
    pub organization_id: ID,
}

/// The seat that was given up.
#[derive(Debug, SimpleObject)]
pub struct LeaveOrganizationPayload {
    /// The seat as it was.
    pub member: Member,
}

/// Who is to be the owner.
#[derive(Debug, InputObject)]
pub struct TransferOwnershipInput {
    /// The seat's id: `Member.id`.
    pub member_id: ID,
}

/// The owner as they are now.
#[derive(Debug, SimpleObject)]
pub struct TransferOwnershipPayload {
    /// The new owner's seat.
    pub member: Member,
}

/// Changes to members.
#[derive(Debug, Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Changes what a member is. Admins and up; where an admin or an owner is made or unmade,
    /// owners only. `CONFLICT` for the last owner, `NOT_FOUND` when the current organization has no
    /// such seat.
    #[graphql(directive = requires_permission::apply(Permission::MemberUpdateRole))]
    async fn update_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which member, and what they are to be.")] input: UpdateMemberRoleInput,
    ) -> Result<UpdateMemberRolePayload> {
        let member =
            ops::update_role(ctx.session()?, parse_id(&input.id), input.role.into()).await?;
        Ok(UpdateMemberRolePayload { member: Member(member) })
    }

    /// Removes a member, who is out with their next request. Admins and up; admins and owners are
    /// removed by owners. `BAD_USER_INPUT` for one's own seat (see `leaveOrganization`), `CONFLICT`
    /// for the last owner, `NOT_FOUND` when the current organization has no such seat.
    #[graphql(directive = requires_permission::apply(Permission::MemberRemove))]
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which member.")] input: RemoveMemberInput,
    ) -> Result<RemoveMemberPayload> {
        let member = ops::remove(ctx.session()?, parse_id(&input.id)).await?;
        Ok(RemoveMemberPayload { member: Member(member) })
    }

    /// Gives up one's own seat. Every member; `CONFLICT` for the last owner. Fields after it in the
    /// same request are in no organization.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationLeave))]
    async fn leave_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization: the current one.")] input: LeaveOrganizationInput,
    ) -> Result<LeaveOrganizationPayload> {
        let session = ctx.session()?;
        let tenant = session.authorize(Permission::OrganizationLeave)?;
        if parse_id(&input.organization_id) != Some(tenant.organization_id) {
            return Err(Error::NotFound("organization"));
        }
        Ok(LeaveOrganizationPayload { member: Member(ops::leave(session).await?) })
    }

    /// Makes another member the owner and the caller an admin. Owners; `BAD_USER_INPUT` for one's
    /// own seat, `NOT_FOUND` when the current organization has no such seat.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationTransfer))]
    async fn transfer_ownership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who is to be the owner.")] input: TransferOwnershipInput,
    ) -> Result<TransferOwnershipPayload> {
        let member = ops::transfer(ctx.session()?, parse_id(&input.member_id)).await?;
        Ok(TransferOwnershipPayload { member: Member(member) })
    }
}

/// A member who joined, changed or went.
#[derive(Debug, SimpleObject)]
pub struct MemberChange {
    /// The seat's id: `Member.id`.
    pub id: ID,
    /// The member as they are now. Null when they are one no more.
    pub member: Option<Member>,
}

/// Changes of members, as they happen.
#[derive(Debug, Default)]
pub struct MemberSubscription;

#[Subscription]
impl MemberSubscription {
    /// Somebody joined the current organization, has another role in it, or is in it no more.
    /// Several changes at once may be told as one.
    async fn member_changed(&self, ctx: &Context<'_>) -> Result<One<MemberChange>> {
        let id = *ctx.event::<MemberId>()?;
        let member = ctx.load(MemberById(id)).await?.map(Member);
        Ok(one(MemberChange { id: id.0.into(), member }))
    }
}
