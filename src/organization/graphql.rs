//! Organizations in the GraphQL API: the type that holds everything of a tenant, and the mutations
//! that create, change and join one.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject, connection::EmptyFields};
use chrono::{DateTime, Utc};
use entity::organization;

use super::{OrganizationName, Slug, loader::OrganizationById, ops};
use crate::{
    audit::{self, AuditLogConnection, AuditLogFilter},
    auth::{Permission, Role},
    billing::{self, Billing},
    error::{Error, Result},
    graphql::{
        ContextExt, MutationTarget, STATEMENT, alone, connection, list_cost, page_cost, parse_id,
        rate_limited, requires_permission,
    },
    invitation::{self, InvitationConnection, InvitationTotal},
    member::{self, Member, MemberById, MemberConnection, MemberTotal},
    page::Page,
    plan::{self, Plan},
    project::{self, Project, ProjectById, ProjectConnection, ProjectTotal},
    tenancy::{Suspension, Tenant},
    usage::{self, Entitlement, Meter},
};

#[derive(Debug)]
pub struct Organization(pub organization::Model);

impl From<organization::Model> for Organization {
    fn from(row: organization::Model) -> Self {
        Self(row)
    }
}

/// An organization: the tenant that a request acts in. Its fields never return data of another
/// organization.
#[Object]
impl Organization {
    /// The ID of the organization.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The display name. 1 to 100 characters.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The slug, which identifies the organization in URLs: `/org/{slug}/graphql`.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// When the organization was created.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When the name or the slug last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// The plan in effect. This is the default plan if the subscription or the trial has ended.
    #[graphql(complexity = "STATEMENT + child_complexity")]
    async fn plan(&self, ctx: &Context<'_>) -> Result<Plan> {
        Ok(Plan(plan::current(ctx.session()?).await?))
    }

    /// The limit and the current usage of every feature.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn entitlements(&self, ctx: &Context<'_>) -> Result<Vec<Entitlement>> {
        let meter =
            ctx.data::<Meter>().map_err(|_| Error::internal("the request has no usage meter"))?;
        let entitlements = usage::entitlements(ctx.session()?, meter).await?;
        Ok(entitlements.into_iter().map(Entitlement).collect())
    }

    /// The caller's role.
    async fn viewer_role(&self, ctx: &Context<'_>) -> Result<Role> {
        Ok(tenant(ctx)?.role.into())
    }

    /// The caller's permissions. Use them to decide which controls to show.
    async fn viewer_permissions(&self, ctx: &Context<'_>) -> Result<Vec<Permission>> {
        let session = ctx.session()?;
        tenant(ctx)?;
        let all = Permission::ALL.into_iter();
        Ok(all.filter(|permission| session.authorize(*permission).is_ok()).collect())
    }

    /// How far the operator has suspended the organization. Null if it is not suspended.
    async fn suspension(&self, ctx: &Context<'_>) -> Result<Option<Suspension>> {
        Ok(tenant(ctx)?.suspension)
    }

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
        Ok(connection(member::list(ctx.session()?, &page).await?, MemberTotal))
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

    /// The open invitations, newest first, including expired ones, but not those whose inviter may
    /// no longer invite. Admins and owners only.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::MemberInvite)
    )]
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<InvitationConnection>> {
        let invitations = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            Ok(connection(invitation::list(ctx.session()?, &page).await?, InvitationTotal))
        };
        Some(invitations.await)
    }

    /// The projects, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<ProjectConnection> {
        let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
        Ok(connection(project::list(ctx.session()?, &page).await?, ProjectTotal))
    }

    /// The project with this ID. Null if the organization has none.
    async fn project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the project.")] id: ID,
    ) -> Option<Result<Project>> {
        let key = ProjectById(parse_id(&id)?);
        ctx.load(key).await.map(|row| row.map(Project)).transpose()
    }

    /// The state of billing. Admins and owners only.
    #[graphql(
        complexity = "STATEMENT + child_complexity",
        directive = requires_permission::apply(Permission::BillingRead)
    )]
    async fn billing(&self, ctx: &Context<'_>) -> Option<Result<Billing>> {
        let billing = async { Ok(Billing(billing::get(ctx.session()?).await?)) };
        Some(billing.await)
    }

    /// The audit log, newest first. Admins and owners only. It has no `totalCount`.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::AuditLogRead)
    )]
    async fn audit_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only entries that match the filter.")] filter: Option<AuditLogFilter>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<AuditLogConnection>> {
        let logs = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            let filter = filter.unwrap_or_default().parse()?;
            let slice = audit::list(ctx.session()?, &filter, &page).await?;
            Ok(connection(slice, EmptyFields))
        };
        Some(logs.await)
    }
}

fn tenant(ctx: &Context<'_>) -> Result<Tenant> {
    ctx.session()?.tenant().ok_or(Error::OrganizationRequired)
}

/// The query for the current organization.
#[derive(Debug, Default)]
pub struct OrganizationQuery;

#[Object]
impl OrganizationQuery {
    /// The organization that the request acts in: the one in the path, or else the one in the
    /// token. Null if neither names one. Errors: `NOT_FOUND` if it does not exist or the caller is
    /// not a member.
    async fn organization(&self, ctx: &Context<'_>) -> Option<Result<Organization>> {
        let session = match ctx.session() {
            Ok(session) => session,
            Err(error) => return Some(Err(error)),
        };
        let tenant = session.tenant()?;
        if let Some(row) = session.organization_row() {
            return Some(Ok(Organization(row.clone())));
        }
        let row = ctx.load(OrganizationById(tenant.organization_id)).await;
        Some(row.and_then(|row| row.map(Organization).ok_or(Error::OrganizationNotFound)))
    }
}

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
        let name = OrganizationName::parse(&input.name)?;
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
        let name = input.name.as_deref().map(OrganizationName::parse).transpose()?;
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
