//! Organizations in the GraphQL API: the type that holds everything of a tenant.

use async_graphql::{Context, ID, Object, connection::EmptyFields};
use chrono::{DateTime, Utc};
use entity::organization;

use super::loader::OrganizationById;
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
    usage::{self, Entitlement, UsagePeriod},
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
        usage::list_entitlements(ctx).await
    }

    /// The limit and the current usage of one feature. Null if the catalogue has no such feature.
    #[graphql(complexity = "4 * STATEMENT + child_complexity")]
    async fn entitlement(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key of the feature, for example `projects`.")] feature: String,
    ) -> Option<Result<Entitlement>> {
        usage::entitlement(ctx, &feature).await.transpose()
    }

    /// The usage of a meter by period, newest first, at most 100. Periods without usage are left
    /// out.
    #[graphql(complexity = "list_cost(12, child_complexity)")]
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key of the feature, for example `api_calls_per_month`.")]
        feature: String,
        #[graphql(desc = "Only periods that start at this time or later.")] from: Option<
            DateTime<Utc>,
        >,
        #[graphql(desc = "Only periods that start before this time.")] to: Option<DateTime<Utc>>,
    ) -> Result<Vec<UsagePeriod>> {
        usage::usage(ctx, &feature, from, to).await
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
