//! The rules of organizations.

use entity::{OrganizationId, organization};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, QueryResult, Set,
    Statement,
};
use serde_json::json;

use super::{OrganizationName, Slug};
use crate::{
    audit::{self, Action},
    auth::Permission,
    billing,
    error::{Error, Result},
    member, plan,
    tenancy::{Access, Change, Session, SystemSession, UnitOfWork},
};

/// Creates an organization, and goes on inside it: its id is made first, so that every row is
/// written in its session.
pub(super) async fn create(
    session: &Session,
    name: OrganizationName,
    slug: Slug,
) -> Result<organization::Model> {
    check_ownerships(session).await?;
    let organization_id = session.begin_organization().await?;
    claim_slug(session, &slug).await?;
    let organization = organization::ActiveModel {
        id: Set(organization_id),
        name: Set(name.into_string()),
        slug: Set(slug.into_string()),
        ..Default::default()
    };
    let organization =
        organization::Entity::insert(organization).exec_with_returning(session).await?;
    member::add_owner(session).await?;
    billing::create(session, organization_id).await?;
    let metadata = json!({ "name": organization.name, "slug": organization.slug });
    audit::record(session, Action::OrganizationCreated, Some(organization_id.0), metadata).await?;
    Ok(organization)
}

async fn claim_slug(session: &Session, slug: &Slug) -> Result<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT app.claim_slug($1) AS outcome",
        [slug.as_str().into()],
    );
    let organization = session.authorize(Permission::OrganizationRead)?.organization_id;
    let reservation = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT app.reserve_slug($1, $2) AS outcome",
        [organization.0.into(), slug.as_str().into()],
    );
    // Slugs are one for all: where others are, it must be kept before it is used here.
    if let Some(rows) = session.ask_control(Access::Write, &reservation).await? {
        check_claim(rows.first(), slug)?;
    }
    check_claim(session.query_one_raw(statement).await?.as_ref(), slug)
}

fn check_claim(row: Option<&QueryResult>, slug: &Slug) -> Result<()> {
    let row = row.ok_or_else(|| Error::internal("claiming a slug answered nothing"))?;
    match row.try_get::<String>("", "outcome")?.as_str() {
        "CLAIMED" => Ok(()),
        "TAKEN" => Err(slug.taken()),
        _ => Err(Error::Conflict(
            "you have given up too many slugs, which are closed to others now: try again in some weeks".to_owned(),
        )),
    }
}

/// The current organization.
pub(super) async fn get(session: &Session) -> Result<organization::Model> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    organization::Entity::find_by_id(tenant.organization_id)
        .one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)
}

/// The organization with this slug, current or retired, or this id, whether or not it has ended.
///
/// # Errors
///
/// When the database fails.
pub async fn find_by_name(session: &SystemSession, name: &str) -> Result<Option<OrganizationId>> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT app.find_organization($1) AS id",
        [name.into()],
    );
    let row = session.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "id")).transpose()?.flatten())
}

pub(super) async fn update(
    session: &Session,
    name: Option<OrganizationName>,
    slug: Option<Slug>,
) -> Result<organization::Model> {
    let before = get_locked(session, Permission::OrganizationUpdate).await?;
    let mut row = before.clone().into_active_model();
    let mut metadata = json!({});
    if let Some(name) = name.map(OrganizationName::into_string).filter(|name| *name != before.name)
    {
        metadata["old_name"] = json!(before.name);
        metadata["name"] = json!(name);
        row.name = Set(name);
    }
    if let Some(slug) = slug.filter(|slug| slug.as_str() != before.slug) {
        session.authorize(Permission::OrganizationUpdateSlug)?;
        claim_slug(session, &slug).await?;
        metadata["old_slug"] = json!(before.slug);
        metadata["slug"] = json!(slug.as_str());
        row.slug = Set(slug.into_string());
    }
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    audit::record(session, Action::OrganizationUpdated, Some(after.id.0), metadata).await?;
    Ok(after)
}

/// Ends the organization. What belongs to it goes with it; its audit log, which has no foreign
/// keys, stays.
pub(super) async fn delete(session: &Session, confirmation: &str) -> Result<organization::Model> {
    let organization = get_locked(session, Permission::OrganizationDelete).await?;
    if confirmation != organization.slug {
        return Err(Error::bad_input("input.slug", "is not the slug of the current organization"));
    }
    if billing::has_live_subscription(session).await? {
        let message = "the organization has a live subscription: cancel it first".to_owned();
        return Err(Error::Conflict(message));
    }
    let metadata = json!({ "name": organization.name, "slug": organization.slug });
    audit::record(session, Action::OrganizationDeleted, Some(organization.id.0), metadata).await?;
    session.execute_unprepared("SELECT app.retire_slugs()").await?;
    session.note(Change::Access(None));
    organization::Entity::delete_by_id(organization.id).exec(session).await?;
    Ok(organization)
}

/// The current organization, under its lock.
async fn get_locked(session: &Session, permission: Permission) -> Result<organization::Model> {
    session.authorize(permission)?;
    plan::lock(session).await?;
    session.authorize(permission)?;
    get(session).await
}

/// A person may own only so many organizations when founding another. Their own requests wait for
/// each other here.
async fn check_ownerships(session: &Session) -> Result<()> {
    let founder = format!("founder {}", session.viewer().user_id);
    session
        .execute_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            [founder.into()],
        ))
        .await?;
    let statement =
        Statement::from_string(DbBackend::Postgres, "SELECT auth.viewer_ownerships() AS owned");
    let owned: i64 = match session.query_one_raw(statement).await? {
        Some(row) => row.try_get("", "owned")?,
        None => 0,
    };
    let most = session.business().max_owned_organizations;
    if owned < i64::from(most) {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "you own {owned} organizations: a person may own {most} at the most"
    )))
}
