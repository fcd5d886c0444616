//! Organizations as clients see them.

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
        ContextExt, STATEMENT, connection, list_cost, page_cost, parse_id, requires_permission,
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

/// A tenant: the organization that a request is in. Nothing of another one can be reached from it.
#[Object]
impl Organization {
    /// The organization's id.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// What to call it: 1 to 100 characters.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Its place in addresses: `/org/{slug}/graphql`.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// When it was founded.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When its name or slug last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// The plan in effect: the default one when the subscription or the trial has ended.
    #[graphql(complexity = "STATEMENT + child_complexity")]
    async fn plan(&self, ctx: &Context<'_>) -> Result<Plan> {
        Ok(Plan(plan::current(ctx.session()?).await?))
    }

    /// What the plan allows and how much of it is used, for every feature.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn entitlements(&self, ctx: &Context<'_>) -> Result<Vec<Entitlement>> {
        let meter = ctx.data::<Meter>().map_err(|_| Error::internal("there is no meter"))?;
        let entitlements = usage::entitlements(ctx.session()?, meter).await?;
        Ok(entitlements.into_iter().map(Entitlement).collect())
    }

    /// What the caller is here.
    async fn viewer_role(&self, ctx: &Context<'_>) -> Result<Role> {
        Ok(tenant(ctx)?.role.into())
    }

    /// What the caller may do here: show what is in it, and hide the rest.
    async fn viewer_permissions(&self, ctx: &Context<'_>) -> Result<Vec<Permission>> {
        let session = ctx.session()?;
        tenant(ctx)?;
        let all = Permission::ALL.into_iter();
        Ok(all.filter(|permission| session.authorize(*permission).is_ok()).collect())
    }

    /// How far the operator has suspended the organization. Null when it is not suspended.
    async fn suspension(&self, ctx: &Context<'_>) -> Result<Option<Suspension>> {
        Ok(tenant(ctx)?.suspension)
    }

    /// The members, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start: at most 100, 20 when neither end is named.")]
        first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end: at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
    ) -> Result<MemberConnection> {
        let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
        Ok(connection(member::list(ctx.session()?, &page).await?, MemberTotal))
    }

    /// The member with this id. Null when there is none here.
    async fn member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The seat's id.")] id: ID,
    ) -> Option<Result<Member>> {
        let key = MemberById(parse_id(&id)?);
        ctx.load(key).await.map(|row| row.map(Member)).transpose()
    }

    /// The open invitations, newest first, expired ones included. Admins and up.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::MemberInvite)
    )]
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start: at most 100, 20 when neither end is named.")]
        first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end: at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
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
        #[graphql(desc = "How many from the start: at most 100, 20 when neither end is named.")]
        first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end: at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
    ) -> Result<ProjectConnection> {
        let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
        Ok(connection(project::list(ctx.session()?, &page).await?, ProjectTotal))
    }

    /// The project with this id. Null when there is none here.
    async fn project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project's id.")] id: ID,
    ) -> Option<Result<Project>> {
        let key = ProjectById(parse_id(&id)?);
        ctx.load(key).await.map(|row| row.map(Project)).transpose()
    }

    /// The state of billing. Admins and up.
    #[graphql(
        complexity = "STATEMENT + child_complexity",
        directive = requires_permission::apply(Permission::BillingRead)
    )]
    async fn billing(&self, ctx: &Context<'_>) -> Option<Result<Billing>> {
        let billing = async { Ok(Billing(billing::get(ctx.session()?).await?)) };
        Some(billing.await)
    }

    /// What was done here, newest first. Admins and up. Without `totalCount`: the log only grows.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::AuditLogRead)
    )]
    async fn audit_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only entries that match all of it.")] filter: Option<AuditLogFilter>,
        #[graphql(desc = "How many from the start: at most 100, 20 when neither end is named.")]
        first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end: at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
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

/// The way in.
#[derive(Debug, Default)]
pub struct OrganizationQuery;

#[Object]
impl OrganizationQuery {
    /// The organization that the request is in: the path's, or the token's. Null when neither names
    /// one.
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

/// An organization to found.
#[derive(Debug, InputObject)]
pub struct CreateOrganizationInput {
    /// What to call it: 1 to 100 characters on one line.
    pub name: String,
    /// Its place in addresses: 2 to 48 of a-z and 0-9, with single hyphens between them. Some words
    /// count as taken.
    pub slug: String,
}

/// The organization that was founded.
#[derive(Debug, SimpleObject)]
pub struct CreateOrganizationPayload {
    /// The new organization, with the caller as its owner, on the default plan.
    pub organization: Organization,
}

/// What to change about the current organization; a field that is left out stays as it is.
#[derive(Debug, InputObject)]
pub struct UpdateOrganizationInput {
    /// The new name: 1 to 100 characters on one line. Null is the same as left out.
    pub name: Option<String>,
    /// The new slug, of the form of a new organization's. Null is the same as left out.
    pub slug: Option<String>,
}

/// The organization as it is now.
#[derive(Debug, SimpleObject)]
pub struct UpdateOrganizationPayload {
    /// The changed organization.
    pub organization: Organization,
}

/// The organization to delete.
#[derive(Debug, InputObject)]
pub struct DeleteOrganizationInput {
    /// The current organization's slug, typed as a confirmation.
    pub slug: String,
}

/// The organization that is gone.
#[derive(Debug, SimpleObject)]
pub struct DeleteOrganizationPayload {
    /// The organization as it was: what belonged to it is gone as well, so ask for its own fields
    /// only.
    pub organization: Organization,
}

/// What the link of an invitation holds.
#[derive(Debug, InputObject)]
pub struct AcceptInvitationInput {
    /// The `token` in the link.
    pub token: String,
}

/// The organization that was joined.
#[derive(Debug, SimpleObject)]
pub struct AcceptInvitationPayload {
    /// The organization that the caller is in now.
    pub organization: Organization,
    /// The caller's seat in it.
    pub member: Member,
}

/// Changes to organizations.
#[derive(Debug, Default)]
pub struct OrganizationMutation;

#[Object]
impl OrganizationMutation {
    /// Founds an organization and makes the caller its owner. Works without an organization, and
    /// must be the only field of its mutation. `CONFLICT` when the slug is taken, or was until 90
    /// days ago.
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to found.")] input: CreateOrganizationInput,
    ) -> Result<CreateOrganizationPayload> {
        let name = OrganizationName::parse(&input.name)?;
        let slug = Slug::parse(&input.slug)?;
        let organization = ops::create(ctx.session()?, name, slug).await?;
        Ok(CreateOrganizationPayload { organization: Organization(organization) })
    }

    /// Changes the current organization's name (admins and up) or slug (owners). The slug before
    /// goes on leading members here, and nobody else can take it for 90 days. `CONFLICT` when the
    /// new slug is taken, or was until 90 days ago.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationUpdate))]
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: UpdateOrganizationInput,
    ) -> Result<UpdateOrganizationPayload> {
        ctx.session()?.authorize(Permission::OrganizationUpdate)?;
        let name = input.name.as_deref().map(OrganizationName::parse).transpose()?;
        let slug = input.slug.as_deref().map(Slug::parse).transpose()?;
        let organization = ops::update(ctx.session()?, name, slug).await?;
        Ok(UpdateOrganizationPayload { organization: Organization(organization) })
    }

    /// Deletes the current organization and all that belongs to it, except its audit log. Owners.
    /// Nobody can take its slugs for 90 days. `CONFLICT` while a subscription is live.
    #[graphql(directive = requires_permission::apply(Permission::OrganizationDelete))]
    async fn delete_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A confirmation.")] input: DeleteOrganizationInput,
    ) -> Result<DeleteOrganizationPayload> {
        let organization = ops::delete(ctx.session()?, &input.slug).await?;
        Ok(DeleteOrganizationPayload { organization: Organization(organization) })
    }

    /// Makes the caller a member of the organization that invited their verified e-mail address.
    /// Works without an organization, and must be the only field of its mutation. `NOT_FOUND` when
    /// the token does not hold, for whatever reason, also when whoever invited may no longer do so;
    /// `CONFLICT` for a member; `PLAN_LIMIT_EXCEEDED` when the plan has shrunk meanwhile.
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What the link holds.")] input: AcceptInvitationInput,
    ) -> Result<AcceptInvitationPayload> {
        let session = ctx.session()?;
        let member = invitation::accept(session, &input.token).await?;
        let organization = ops::get(session).await?;
        Ok(AcceptInvitationPayload {
            organization: Organization(organization),
            member: Member(member),
        })
    }
}
