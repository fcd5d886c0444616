//! The rules of organizations. Every change holds the organization's lock, and its slug is claimed
//! before it is used.

use entity::{OrganizationId, organization};
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryResult, Set};
use serde_json::json;

use super::{Settings, Slug};
use crate::{
    audit::{self, Action},
    auth::Permission,
    billing,
    error::{Error, Result},
    member, plan,
    sql::{sql, value_of},
    tenancy::{Access, Change, Fetch as _, Session, SystemSession, UnitOfWork},
    text::Line,
};

/// Creates the organization in which the session was opened. The id comes first, so that every row
/// is written in the organization's session.
pub(super) async fn create(
    session: &Session,
    name: Line<100>,
    slug: Slug,
) -> Result<organization::Model> {
    let organization_id = session.organization_id()?;
    check_ownerships(session).await?;
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
    let claim = |organization: Option<OrganizationId>| {
        let organization = organization.map(|organization| organization.0);
        sql("SELECT app.claim_slug($1, $2) AS outcome", [slug.as_str().into(), organization.into()])
    };
    let organization = session.authorize(Permission::OrganizationRead)?.organization_id;
    // Slugs are unique across all databases. The control database reserves the slug before a
    // dedicated database uses it.
    if let Some(rows) = session.ask_control(Access::Write, &claim(Some(organization))).await? {
        check_claim(rows.first(), slug)?;
    }
    check_claim(session.query_one_raw(claim(None)).await?.as_ref(), slug)
}

fn check_claim(row: Option<&QueryResult>, slug: &Slug) -> Result<()> {
    let row = row.ok_or_else(|| Error::internal("claiming a slug returned no row"))?;
    match row.try_get::<String>("", "outcome")?.as_str() {
        "CLAIMED" => Ok(()),
        "TAKEN" => Err(slug.taken()),
        _ => Err(Error::Conflict(
            "You have released too many slugs in the last 90 days. Try again in a few weeks."
                .to_owned(),
        )),
    }
}

/// Returns the current organization.
pub(super) async fn get(session: &Session) -> Result<organization::Model> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    organization::Entity::find_by_id(tenant.organization_id)
        .fetch_one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)
}

/// Finds the organization with this id or slug. A retired slug counts, and so does a deleted
/// organization.
pub async fn find_by_name(session: &SystemSession, name: &str) -> Result<Option<OrganizationId>> {
    value_of(session, "id", sql("SELECT app.find_organization($1) AS id", [name.into()])).await
}

pub(super) async fn update(
    session: &Session,
    name: Option<Line<100>>,
    slug: Option<Slug>,
) -> Result<organization::Model> {
    let before = get_locked(session, Permission::OrganizationUpdate).await?;
    let mut row = before.clone().into_active_model();
    if let Some(name) = name {
        row.name.set_if_not_equals(name.into_string());
    }
    if let Some(slug) = slug.filter(|slug| slug.as_str() != before.slug) {
        session.authorize(Permission::OrganizationUpdateSlug)?;
        claim_slug(session, &slug).await?;
        row.slug = Set(slug.into_string());
    }
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    let mut metadata = json!({});
    audit::add_changes(
        &mut metadata,
        [
            ("name", json!(before.name), json!(after.name)),
            ("slug", json!(before.slug), json!(after.slug)),
        ],
    );
    audit::record(session, Action::OrganizationUpdated, Some(after.id.0), metadata).await?;
    Ok(after)
}

/// Deletes the organization and everything that belongs to it. The audit log has no foreign keys
/// and remains.
pub(super) async fn delete(session: &Session, confirmation: &str) -> Result<organization::Model> {
    let organization = get_locked(session, Permission::OrganizationDelete).await?;
    if confirmation != organization.slug {
        return Err(Error::bad_input(
            "input.slug",
            "is not the slug of the current organization. Enter it to confirm the deletion.",
        ));
    }
    billing::require_deletable(session).await?;
    let metadata = json!({ "name": organization.name, "slug": organization.slug });
    audit::record(session, Action::OrganizationDeleted, Some(organization.id.0), metadata).await?;
    session.execute_unprepared("SELECT app.retire_slugs()").await?;
    session.note(Change::access(None));
    organization::Entity::delete_by_id(organization.id).exec(session).await?;
    Ok(organization)
}

/// Returns the current organization under its lock.
async fn get_locked(session: &Session, permission: Permission) -> Result<organization::Model> {
    session.authorize(permission)?;
    plan::lock(session).await?;
    session.authorize(permission)?;
    get(session).await
}

/// Enforces the limit on organizations that a user owns. The lock makes concurrent requests of one
/// user wait for each other.
async fn check_ownerships(session: &Session) -> Result<()> {
    let lock_name = format!("founder {}", session.viewer().user_id);
    let lock = sql("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [lock_name.into()]);
    session.execute_raw(lock).await?;
    let count = "SELECT count(*) AS owned FROM auth.viewer_memberships() WHERE role = 'owner'";
    let owned: i64 = value_of(session, "owned", sql(count, [])).await?;
    let limit = session.settings().area::<Settings>()?.max_owned;
    if owned < i64::from(limit) {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "You own {owned} organizations, and the limit is {limit}. Transfer or delete one first."
    )))
}
