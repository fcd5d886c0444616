//! Members in the GraphQL API: the type, its connection, mutations and subscription.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use entity::{MemberId, organization_member};

use super::{loader::MemberById, ops};
use crate::{
    auth::{Permission, Role},
    error::{Error, Result},
    graphql::{
        Connection, ContextExt, Extended, Loaded, One, STATEMENT, connection, on_change, one,
        page_cost, parse_id, requires_permission, to_int,
    },
    page::Page,
    tenancy::Change,
    user::{User, UserById},
};

#[derive(Debug)]
pub struct Member(pub organization_member::Model);

impl From<organization_member::Model> for Member {
    fn from(row: organization_member::Model) -> Self {
        Self(row)
    }
}

/// A user's membership in the current organization.
#[Object]
impl Member {
    /// The ID of the membership. It differs from the ID of the user.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The user. Null only in the payload of a mutation that ended the membership.
    async fn user(&self, ctx: &Context<'_>) -> Option<Result<Loaded<User>>> {
        ctx.load(UserById(self.0.user_id)).await.map(|row| row.map(User).map(Loaded)).transpose()
    }

    /// The user's role in the organization.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// The user who invited this member. Null for the creator of the organization, and if the
    /// inviter has left.
    async fn invited_by(&self, ctx: &Context<'_>) -> Option<Result<Loaded<User>>> {
        let id = self.0.invited_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User).map(Loaded)).transpose()
    }

    /// When the user joined.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.0.joined_at
    }

    /// When the membership last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    #[graphql(flatten)]
    async fn other_areas(&self) -> <Self as Extended>::Fields {
        self.into()
    }
}

/// A page of members.
pub type MemberConnection = Connection<Member, MemberTotal>;

/// The additional fields of the connection.
#[derive(Debug)]
pub struct MemberTotal;

#[Object]
impl MemberTotal {
    /// The number of members on all pages. Counted only if selected.
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}

/// Members as fields of `Organization`.
#[derive(Debug, Default)]
pub struct MembersOfOrganization;

#[Object]
impl MembersOfOrganization {
    /// The members, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<MemberConnection> {
        let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
        Ok(connection(ops::list(ctx.session()?, &page).await?, MemberTotal))
    }

    /// The member with this membership ID. Null if the organization has none.
    async fn member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the membership.")] id: ID,
    ) -> Option<Result<Member>> {
        let key = MemberById(parse_id(&id)?);
        ctx.load(key).await.map(|row| row.map(Member)).transpose()
    }
}

/// Input of `updateMemberRole`.
#[derive(Debug, InputObject)]
pub struct UpdateMemberRoleInput {
    /// The ID of the membership: `Member.id`.
    pub id: ID,
    /// The new role.
    pub role: Role,
}

/// Payload of `updateMemberRole`.
#[derive(Debug, SimpleObject)]
pub struct UpdateMemberRolePayload {
    /// The updated member.
    pub member: Member,
}

/// Input of `removeMember`.
#[derive(Debug, InputObject)]
pub struct RemoveMemberInput {
    /// The ID of the membership: `Member.id`.
    pub id: ID,
}

/// Payload of `removeMember`.
#[derive(Debug, SimpleObject)]
pub struct RemoveMemberPayload {
    /// The membership before its removal.
    pub member: Member,
}

/// Input of `leaveOrganization`.
#[derive(Debug, InputObject)]
pub struct LeaveOrganizationInput {
    /// The ID of the current organization. It prevents leaving the wrong organization.
    pub organization_id: ID,
}

/// Payload of `leaveOrganization`.
#[derive(Debug, SimpleObject)]
pub struct LeaveOrganizationPayload {
    /// The membership before it ended.
    pub member: Member,
}

/// Input of `transferOwnership`.
#[derive(Debug, InputObject)]
pub struct TransferOwnershipInput {
    /// The ID of the new owner's membership: `Member.id`.
    pub member_id: ID,
}

/// Payload of `transferOwnership`.
#[derive(Debug, SimpleObject)]
pub struct TransferOwnershipPayload {
    /// The new owner's membership.
    pub member: Member,
}

/// The mutations of members.
#[derive(Debug, Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Changes a member's role. Admins can set and change the roles viewer and member. Owners can
    /// set and change any role.
    ///
    /// Errors: `CONFLICT` if the organization would have no owner; `NOT_FOUND` if the current
    /// organization has no such membership.
    #[graphql(directive = requires_permission::apply(Permission::MemberUpdateRole))]
    async fn update_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member, and the new role.")] input: UpdateMemberRoleInput,
    ) -> Result<UpdateMemberRolePayload> {
        let member =
            ops::update_role(ctx.session()?, parse_id(&input.id), input.role.into()).await?;
        Ok(UpdateMemberRolePayload { member: Member(member) })
    }

    /// Removes a member. Access ends with their next request. Admins can remove viewers and
    /// members. Owners can remove any member.
    ///
    /// Errors: `BAD_USER_INPUT` for your own membership (see `leaveOrganization`); `CONFLICT` if
    /// the organization would have no owner; `NOT_FOUND` if the current organization has no such
    /// membership.
    #[graphql(directive = requires_permission::apply(Permission::MemberRemove))]
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member.")] input: RemoveMemberInput,
    ) -> Result<RemoveMemberPayload> {
        let member = ops::remove(ctx.session()?, parse_id(&input.id)).await?;
        Ok(RemoveMemberPayload { member: Member(member) })
    }

    /// Ends the caller's own membership. All roles. Later fields in the same request run outside
    /// any organization.
    ///
    /// Errors: `CONFLICT` if the organization would have no owner; `NOT_FOUND` if `organizationId`
    /// is not the current organization.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationLeave))]
    async fn leave_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The current organization, as a confirmation.")]
        input: LeaveOrganizationInput,
    ) -> Result<LeaveOrganizationPayload> {
        let session = ctx.session()?;
        let tenant = session.authorize(Permission::OrganizationLeave)?;
        if parse_id(&input.organization_id) != Some(tenant.organization_id) {
            return Err(Error::NotFound("organization"));
        }
        Ok(LeaveOrganizationPayload { member: Member(ops::leave(session).await?) })
    }

    /// Makes another member an owner and the caller an admin. Owners only.
    ///
    /// Errors: `BAD_USER_INPUT` for your own membership; `NOT_FOUND` if the current organization
    /// has no such membership.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationTransfer))]
    async fn transfer_ownership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new owner.")] input: TransferOwnershipInput,
    ) -> Result<TransferOwnershipPayload> {
        let member = ops::transfer(ctx.session()?, parse_id(&input.member_id)).await?;
        Ok(TransferOwnershipPayload { member: Member(member) })
    }
}

/// A member who joined, changed or left.
#[derive(Debug, SimpleObject)]
pub struct MemberChange {
    /// The ID of the membership: `Member.id`.
    pub id: ID,
    /// The current membership. Null if it ended.
    pub member: Option<Member>,
}

/// The subscription to members.
#[derive(Debug, Default)]
pub struct MemberSubscription;

#[Subscription]
impl MemberSubscription {
    /// Sends an event when a member joins the current organization, changes role, or leaves.
    /// Several changes in quick succession may arrive as one event.
    #[graphql(directive = on_change::apply(ops::TOPIC.to_owned()))]
    async fn member_changed(&self, ctx: &Context<'_>) -> Result<One<MemberChange>> {
        let id = ctx.event::<Change>()?.row::<MemberId>()?;
        let member = ctx.load(MemberById(id)).await?.map(Member);
        Ok(one(MemberChange { id: id.0.into(), member }))
    }
}
