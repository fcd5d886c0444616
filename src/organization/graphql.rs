//! Organizations in the GraphQL API: the type that holds everything of a tenant.

use async_graphql::{Context, ID, Object};
use chrono::{DateTime, Utc};
use entity::organization;

use super::loader::OrganizationById;
use crate::{
    auth::{Permission, Role},
    declared::Declared as _,
    error::{Error, Result},
    graphql::{ContextExt, Extended},
    tenancy::{Suspension, Tenant},
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

    /// The caller's role.
    async fn viewer_role(&self, ctx: &Context<'_>) -> Result<Role> {
        Ok(tenant(ctx)?.role.into())
    }

    /// The caller's permissions. Use them to decide which controls to show.
    async fn viewer_permissions(&self, ctx: &Context<'_>) -> Result<Vec<Permission>> {
        let session = ctx.session()?;
        tenant(ctx)?;
        let all = Permission::all().iter().copied();
        Ok(all.filter(|permission| session.authorize(*permission).is_ok()).collect())
    }

    /// How far the operator has suspended the organization. Null if it is not suspended.
    async fn suspension(&self, ctx: &Context<'_>) -> Result<Option<Suspension>> {
        Ok(tenant(ctx)?.suspension)
    }

    #[graphql(flatten)]
    async fn other_areas(&self) -> <Self as Extended>::Fields {
        self.into()
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
