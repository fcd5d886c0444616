//! The mutations that create, change, delete and join an organization.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{Slug, graphql::Organization, ops};
use crate::{
    auth::Permission,
    error::Result,
    graphql::{ContextExt, MutationTarget, alone, rate_limited, requires_permission},
    invitation,
    member::Member,
    text::Line,
};

/// Input of `createOrganization`.
#[derive(Debug, InputObject)]
pub struct CreateOrganizationInput {
    /// The display name: 1 to 100 characters, on one line.
    pub name: String,
    /// The slug, which identifies the organization in URLs: 2 to 48 characters of a-z and 0-9, with
    /// single hyphens between them. Some words are reserved.
    pub slug: String,
}

/// Payload of `createOrganization`.
#[derive(Debug, SimpleObject)]
pub struct CreateOrganizationPayload {
    /// The new organization. The caller is its owner, and it has the default plan or, if the
    /// operator offers one, a trial.
    pub organization: Organization,
}

/// Input of `updateOrganization`. Omitted fields stay unchanged.
#[derive(Debug, InputObject)]
pub struct UpdateOrganizationInput {
    /// The new name: 1 to 100 characters, on one line. Null leaves it unchanged.
    pub name: Option<String>,
    /// The new slug: 2 to 48 characters of a-z and 0-9, with single hyphens between them. Null
    /// leaves it unchanged.
    pub slug: Option<String>,
}

/// Payload of `updateOrganization`.
#[derive(Debug, SimpleObject)]
pub struct UpdateOrganizationPayload {
    /// The updated organization.
    pub organization: Organization,
}

/// Input of `deleteOrganization`.
#[derive(Debug, InputObject)]
pub struct DeleteOrganizationInput {
    /// The slug of the current organization, as a confirmation.
    pub slug: String,
}

/// Payload of `deleteOrganization`.
#[derive(Debug, SimpleObject)]
pub struct DeleteOrganizationPayload {
    /// The organization before its deletion. Select only its scalar fields: everything that
    /// belonged to it is deleted too.
    pub organization: Organization,
}

/// Input of `acceptInvitation`. Exactly one of the fields is required.
#[derive(Debug, InputObject)]
pub struct AcceptInvitationInput {
    /// The `token` parameter of the invitation link.
    pub token: Option<String>,
    /// The ID of one of `Viewer.invitations`.
    pub id: Option<ID>,
}

/// Payload of `acceptInvitation`.
#[derive(Debug, SimpleObject)]
pub struct AcceptInvitationPayload {
    /// The organization that the caller joined.
    pub organization: Organization,
    /// The caller's membership.
    pub member: Member,
}

/// The mutations of organizations.
#[derive(Debug, Default)]
pub struct OrganizationMutation;

#[Object]
impl OrganizationMutation {
    /// Creates an organization and makes the caller its owner. Does not require an organization.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` if the slug is taken, reserved,
    /// or was released less than 90 days ago, or if the caller owns too many organizations;
    /// `RATE_LIMITED` after too many attempts.
    #[graphql(
        directive = alone::apply(MutationTarget::NewOrganization),
        directive = rate_limited::apply()
    )]
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to create.")] input: CreateOrganizationInput,
    ) -> Result<CreateOrganizationPayload> {
        let name = Line::parse("input.name", &input.name)?;
        let slug = Slug::parse(&input.slug)?;
        let organization = ops::create(ctx.session()?, name, slug).await?;
        Ok(CreateOrganizationPayload { organization: Organization(organization) })
    }

    /// Changes the name (admins and owners) or the slug (owners) of the current organization. The
    /// former slug keeps routing its members here, and no other organization can take it for 90
    /// days.
    ///
    /// Errors: `CONFLICT` if the new slug is taken, reserved, or was released less than 90 days
    /// ago, or after too many changes; `RATE_LIMITED` after too many attempts.
    #[graphql(
        directive = requires_permission::apply(Permission::OrganizationUpdate),
        directive = rate_limited::apply()
    )]
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new values.")] input: UpdateOrganizationInput,
    ) -> Result<UpdateOrganizationPayload> {
        ctx.session()?.authorize(Permission::OrganizationUpdate)?;
        let name = input.name.map(|name| Line::parse("input.name", &name)).transpose()?;
        let slug = input.slug.as_deref().map(Slug::parse).transpose()?;
        let organization = ops::update(ctx.session()?, name, slug).await?;
        Ok(UpdateOrganizationPayload { organization: Organization(organization) })
    }

    /// Deletes the current organization and everything that belongs to it, except its audit log. No
    /// other organization can take its slugs for 90 days. Owners only.
    ///
    /// Errors: `CONFLICT` while a subscription is live; `BAD_USER_INPUT` if the slug is not that of
    /// the current organization.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationDelete))]
    async fn delete_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The confirmation.")] input: DeleteOrganizationInput,
    ) -> Result<DeleteOrganizationPayload> {
        let organization = ops::delete(ctx.session()?, &input.slug).await?;
        Ok(DeleteOrganizationPayload { organization: Organization(organization) })
    }

    /// Makes the caller a member of the organization that invited their verified e-mail address.
    /// Does not require an organization.
    ///
    /// Must be the only field of its mutation. Errors: `NOT_FOUND` if the invitation is unknown,
    /// expired, used or revoked, or if the inviter may no longer invite; `WRONG_ACCOUNT` or
    /// `ADDRESS_NOT_VERIFIED` if it is not for the caller; `CONFLICT` if the caller is already a
    /// member; `PLAN_LIMIT_EXCEEDED` if the plan allows no more members; `RATE_LIMITED` after too
    /// many attempts.
    #[graphql(
        directive = alone::apply(MutationTarget::Invited),
        directive = rate_limited::apply()
    )]
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation.")] input: AcceptInvitationInput,
    ) -> Result<AcceptInvitationPayload> {
        let session = ctx.session()?;
        let reference = invitation::reference(input.token, input.id.as_ref())?;
        let member = invitation::accept(session, &reference).await?;
        let organization = ops::get(session).await?;
        Ok(AcceptInvitationPayload {
            organization: Organization(organization),
            member: Member(member),
        })
    }
}
