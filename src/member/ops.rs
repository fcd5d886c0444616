//! The rules of membership. Every change holds the organization's lock, so that concurrent changes
//! cannot leave it without an owner.

use entity::{MemberId, OrgRole, UserId, invitation, organization_member, user};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, Iterable, JoinType,
    PaginatorTrait, QueryFilter, QuerySelect, Select, Set,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::{self, Action},
    auth::Permission,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    plan, seats,
    tenancy::{Change, Fetch as _, Session, Tenant, UnitOfWork},
};

/// The topic of changes to memberships.
pub(super) const TOPIC: &str = "member";

const NOT_FOUND: Error = Error::NotFound("member");

impl Keyed for organization_member::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

fn all(tenant: Tenant) -> Select<organization_member::Entity> {
    organization_member::Entity::find()
        .filter(organization_member::Column::OrganizationId.eq(tenant.organization_id))
}

/// Lists a page of the members, newest first.
///
/// # Errors
///
/// Fails without an organization.
pub async fn list(session: &Session, page: &Page) -> Result<Slice<organization_member::Model>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let rows = page
        .narrow(
            all(tenant),
            organization_member::Column::CreatedAt,
            organization_member::Column::Id,
        )
        .fetch(session)
        .await?;
    Ok(page.slice(rows))
}

/// Counts the members.
///
/// # Errors
///
/// Fails without an organization.
pub async fn count(session: &Session) -> Result<u64> {
    Ok(all(session.authorize(Permission::OrganizationRead)?).count(session).await?)
}

/// Returns whether a member has this verified e-mail address.
///
/// # Errors
///
/// Fails without an organization.
pub async fn has_email(session: &Session, email: &str) -> Result<bool> {
    let to_user = organization_member::Entity::belongs_to(user::Entity)
        .from(organization_member::Column::UserId)
        .to(user::Column::Id);
    let found = all(session.authorize(Permission::OrganizationRead)?)
        .join(JoinType::InnerJoin, to_user.into())
        .filter(user::Column::Email.eq(email))
        .count(session)
        .await?;
    Ok(found > 0)
}

/// Returns whether the user is a member who may still invite to this role.
///
/// # Errors
///
/// Fails without an organization.
pub async fn may_invite(session: &Session, inviter: UserId, role: OrgRole) -> Result<bool> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let membership = all(tenant)
        .filter(organization_member::Column::UserId.eq(inviter))
        .fetch_one(session)
        .await?;
    Ok(membership.is_some_and(|membership| Permission::allow_inviting(membership.role, role)))
}

/// Makes the caller the owner of the organization they are creating.
///
/// # Errors
///
/// Fails unless the session has entered that organization as its owner.
pub async fn add_owner(session: &Session) -> Result<()> {
    session.authorize(Permission::OrganizationDelete)?;
    join(session, OrgRole::Owner, None).await?;
    Ok(())
}

/// Makes the caller a member of the session's organization.
///
/// # Errors
///
/// [`Error::Conflict`] if the caller is already a member.
pub async fn join(
    session: &Session,
    role: OrgRole,
    invited_by: Option<UserId>,
) -> Result<organization_member::Model> {
    use organization_member::Column;
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let row = organization_member::ActiveModel {
        organization_id: Set(tenant.organization_id),
        id: Set(MemberId::new()),
        user_id: Set(session.viewer().user_id),
        role: Set(role),
        invited_by: Set(invited_by),
        ..Default::default()
    };
    let once =
        OnConflict::columns([Column::OrganizationId, Column::UserId]).do_nothing().to_owned();
    let inserted = organization_member::Entity::insert(row)
        .on_conflict(once)
        .exec_without_returning(session)
        .await?;
    let membership =
        all(tenant).filter(Column::UserId.eq(session.viewer().user_id)).fetch_one(session).await?;
    match (inserted, membership) {
        (1, Some(membership)) => {
            session.note(Change::of(TOPIC, membership.id.0));
            session.note(Change::new(plan::ENTITLEMENTS));
            Ok(membership)
        }
        _ => Err(is_member()),
    }
}

fn is_member() -> Error {
    Error::Conflict("You are already a member of this organization.".to_owned())
}

pub(super) async fn update_role(
    session: &Session,
    id: Option<MemberId>,
    role: OrgRole,
) -> Result<organization_member::Model> {
    let before = find_locked(session, Permission::MemberUpdateRole, id).await?;
    session.authorize(Permission::to_act_on(role, Permission::MemberUpdateRole))?;
    if before.role == role {
        return Ok(before);
    }
    require_other_owner(session, &before).await?;
    let after = set_role(session, before.clone(), role).await?;
    let metadata = json!({
        "user_id": after.user_id,
        "name": name_of(session, after.user_id).await?,
        "old_role": role_name(before.role),
        "role": role_name(role),
    });
    audit::record(session, Action::MemberRoleChanged, Some(after.id.0), metadata).await?;
    Ok(after)
}

pub(super) async fn remove(
    session: &Session,
    id: Option<MemberId>,
) -> Result<organization_member::Model> {
    let member = find_locked(session, Permission::MemberRemove, id).await?;
    if member.user_id == session.viewer().user_id {
        return Err(Error::bad_input(
            "input.id",
            "is your own membership. Use `leaveOrganization` instead.",
        ));
    }
    end_membership(session, member, Action::MemberRemoved).await
}

pub(super) async fn leave(session: &Session) -> Result<organization_member::Model> {
    session.authorize(Permission::OrganizationLeave)?;
    plan::lock(session).await?;
    let own = own_membership(session).await?;
    let membership = end_membership(session, own, Action::MemberLeft).await?;
    session.leave();
    Ok(membership)
}

/// Makes another member an owner, and the caller an admin. Returns the new owner's membership.
pub(super) async fn transfer(
    session: &Session,
    id: Option<MemberId>,
) -> Result<organization_member::Model> {
    let successor = find_locked(session, Permission::OrganizationTransfer, id).await?;
    let own = own_membership(session).await?;
    if successor.id == own.id {
        return Err(Error::bad_input(
            "input.memberId",
            "is your own membership. Choose another member.",
        ));
    }
    let old_role = role_name(successor.role);
    let successor = set_role(session, successor, OrgRole::Owner).await?;
    set_role(session, own, OrgRole::Admin).await?;
    let name = name_of(session, successor.user_id).await?;
    let metadata = json!({ "user_id": successor.user_id, "name": name, "old_role": old_role });
    audit::record(
        session,
        Action::OrganizationTransferred,
        Some(successor.organization_id.0),
        metadata,
    )
    .await?;
    Ok(successor)
}

/// The name of a role in PostgreSQL and in the audit log.
#[must_use]
pub fn role_name(role: OrgRole) -> String {
    role.to_value()
}

/// Finds a membership under the organization's lock. The caller must be allowed to act on its role.
async fn find_locked(
    session: &Session,
    permission: Permission,
    id: Option<MemberId>,
) -> Result<organization_member::Model> {
    session.authorize(permission)?;
    plan::lock(session).await?;
    let tenant = session.authorize(permission)?;
    let member = all(tenant)
        .filter(organization_member::Column::Id.eq(id.ok_or(NOT_FOUND)?))
        .fetch_one(session)
        .await?
        .ok_or(NOT_FOUND)?;
    session.authorize(Permission::to_act_on(member.role, permission))?;
    Ok(member)
}

async fn own_membership(session: &Session) -> Result<organization_member::Model> {
    all(session.authorize(Permission::OrganizationRead)?)
        .filter(organization_member::Column::UserId.eq(session.viewer().user_id))
        .fetch_one(session)
        .await?
        .ok_or(NOT_FOUND)
}

async fn end_membership(
    session: &Session,
    member: organization_member::Model,
    action: Action,
) -> Result<organization_member::Model> {
    require_other_owner(session, &member).await?;
    let metadata = json!({
        "user_id": member.user_id,
        "name": name_of(session, member.user_id).await?,
        "role": role_name(member.role),
    });
    // Recorded first, because a caller who leaves has no organization afterwards.
    audit::record(session, action, Some(member.id.0), metadata).await?;
    organization_member::Entity::delete_by_id((member.organization_id, member.id))
        .exec(session)
        .await?;
    invalidate_invitations(session, &member, None).await?;
    session.note(Change::of(TOPIC, member.id.0));
    session.note(Change::access(Some(member.user_id)));
    session.note(Change::new(plan::ENTITLEMENTS));
    seats::follow(session).await?;
    Ok(member)
}

/// Takes the inviter from invitations to which the member may no longer invite, now that they have
/// this role or none. They stay invalid even if the member gets the role back, so that they do not
/// count again after others have taken their place.
async fn invalidate_invitations(
    session: &Session,
    member: &organization_member::Model,
    role: Option<OrgRole>,
) -> Result<()> {
    use invitation::Column;
    let is_lost = |invited: &OrgRole| {
        role.is_none_or(|inviter| !Permission::allow_inviting(inviter, *invited))
    };
    let lost: Vec<OrgRole> = OrgRole::iter().filter(is_lost).collect();
    invitation::Entity::update_many()
        .col_expr(Column::InvitedBy, Expr::value(Option::<Uuid>::None))
        .filter(Column::OrganizationId.eq(member.organization_id))
        .filter(Column::InvitedBy.eq(member.user_id))
        .filter(Column::AcceptedAt.is_null())
        .filter(Column::RevokedAt.is_null())
        .filter(Column::Role.is_in(lost))
        .exec(session)
        .await?;
    Ok(())
}

/// Refuses to remove or demote the last owner. The count is exact, because the organization's lock
/// is held.
async fn require_other_owner(session: &Session, member: &organization_member::Model) -> Result<()> {
    if member.role != OrgRole::Owner {
        return Ok(());
    }
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let owners = all(tenant).filter(organization_member::Column::Role.eq(OrgRole::Owner));
    if owners.count(session).await? > 1 {
        return Ok(());
    }
    Err(Error::Conflict(
        "The organization would have no owner. Transfer the ownership first.".to_owned(),
    ))
}

async fn set_role(
    session: &Session,
    member: organization_member::Model,
    role: OrgRole,
) -> Result<organization_member::Model> {
    let own = member.user_id == session.viewer().user_id;
    let mut row = member.into_active_model();
    row.role.set_if_not_equals(role);
    let member = row.update(session).await?;
    if role != OrgRole::Owner {
        invalidate_invitations(session, &member, Some(role)).await?;
        session.note(Change::new(plan::ENTITLEMENTS));
        seats::follow(session).await?;
    }
    session.note(Change::of(TOPIC, member.id.0));
    session.note(Change::access(Some(member.user_id)));
    if own {
        // Later fields of the same request are subject to the new role.
        session.refresh_role().await?;
    }
    Ok(member)
}

/// The name of a user in the audit log.
async fn name_of(session: &Session, id: UserId) -> Result<Option<String>> {
    let user = user::Entity::find_by_id(id).fetch_one(session).await?;
    Ok(user.and_then(|user| user.name.or(user.email)))
}
