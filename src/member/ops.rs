//! The rules of membership. What changes a seat happens under the organization's lock, because an
//! organization always keeps an owner, whoever does what at once.

use entity::{MemberId, OrgRole, UserId, organization_member, user};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, JoinType,
    PaginatorTrait, QueryFilter, QuerySelect, Select, Set, sea_query::OnConflict,
};
use serde_json::json;

use crate::{
    audit::{self, Action},
    auth::Permission,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    plan,
    tenancy::{Change, Fetch as _, Session, Tenant, UnitOfWork},
};

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

/// A page of the members, newest first.
///
/// # Errors
///
/// Without an organization.
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

/// How many members there are.
///
/// # Errors
///
/// Without an organization.
pub async fn count(session: &Session) -> Result<u64> {
    Ok(all(session.authorize(Permission::OrganizationRead)?).count(session).await?)
}

/// Whether a member has this verified address.
///
/// # Errors
///
/// Without an organization.
pub async fn has_email(session: &Session, email: &str) -> Result<bool> {
    let person = organization_member::Entity::belongs_to(user::Entity)
        .from(organization_member::Column::UserId)
        .to(user::Column::Id);
    let found = all(session.authorize(Permission::OrganizationRead)?)
        .join(JoinType::InnerJoin, person.into())
        .filter(user::Column::Email.eq(email))
        .count(session)
        .await?;
    Ok(found > 0)
}

/// Whether the address is one of the caller's: of their user, or verified in the token of this
/// request.
///
/// # Errors
///
/// When the database fails.
pub async fn is_address_of_viewer(session: &Session, email: &str) -> Result<bool> {
    let viewer = session.viewer();
    if viewer.verified_email.as_deref() == Some(email) {
        return Ok(true);
    }
    let user = user::Entity::find_by_id(viewer.user_id).one(session).await?;
    Ok(user.is_some_and(|user| user.email.as_deref() == Some(email)))
}

/// Whether the person is a member who may still invite somebody to this role.
///
/// # Errors
///
/// Without an organization.
pub async fn may_invite(session: &Session, inviter: UserId, role: OrgRole) -> Result<bool> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let seat =
        all(tenant).filter(organization_member::Column::UserId.eq(inviter)).one(session).await?;
    let permission = Permission::to_act_on(role, Permission::MemberInvite);
    Ok(seat.is_some_and(|seat| {
        Permission::MemberInvite.granted_to(seat.role) && permission.granted_to(seat.role)
    }))
}

/// Gives the caller the first seat of an organization that they are just creating.
///
/// # Errors
///
/// When the session has not entered that organization as its owner.
pub async fn add_owner(session: &Session) -> Result<()> {
    session.authorize(Permission::OrganizationDelete)?;
    join(session, OrgRole::Owner, None).await?;
    Ok(())
}

/// Gives the caller a seat in the organization that the session is in.
///
/// # Errors
///
/// When they have one already.
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
    let seat = all(tenant).filter(Column::UserId.eq(session.viewer().user_id)).one(session).await?;
    match (inserted, seat) {
        (1, Some(seat)) => {
            session.note(Change::Member(seat.id));
            session.note(Change::Entitlements);
            Ok(seat)
        }
        _ => Err(Error::Conflict("you are a member of this organization already".to_owned())),
    }
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
    keep_an_owner(session, &before).await?;
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
        return Err(Error::bad_input("input.id", "is your own seat: use leaveOrganization"));
    }
    end(session, member, Action::MemberRemoved).await
}

pub(super) async fn leave(session: &Session) -> Result<organization_member::Model> {
    session.authorize(Permission::OrganizationLeave)?;
    plan::lock(session).await?;
    let own = own_seat(session).await?;
    let seat = end(session, own, Action::MemberLeft).await?;
    session.leave();
    Ok(seat)
}

/// Makes another member the owner, and the caller an admin. Answers with the new owner's seat.
pub(super) async fn transfer(
    session: &Session,
    id: Option<MemberId>,
) -> Result<organization_member::Model> {
    let heir = find_locked(session, Permission::OrganizationTransfer, id).await?;
    let own = own_seat(session).await?;
    if heir.id == own.id {
        return Err(Error::bad_input("input.memberId", "is your own seat"));
    }
    let old_role = role_name(heir.role);
    let heir = set_role(session, heir, OrgRole::Owner).await?;
    set_role(session, own, OrgRole::Admin).await?;
    let name = name_of(session, heir.user_id).await?;
    let metadata = json!({ "user_id": heir.user_id, "name": name, "old_role": old_role });
    audit::record(session, Action::OrganizationTransferred, Some(heir.organization_id.0), metadata)
        .await?;
    Ok(heir)
}

/// A role as PostgreSQL and the audit log write it.
#[must_use]
pub fn role_name(role: OrgRole) -> String {
    role.to_value()
}

/// The seat, under the organization's lock, provided that the caller may act on its role.
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
        .one(session)
        .await?
        .ok_or(NOT_FOUND)?;
    session.authorize(Permission::to_act_on(member.role, permission))?;
    Ok(member)
}

async fn own_seat(session: &Session) -> Result<organization_member::Model> {
    all(session.authorize(Permission::OrganizationRead)?)
        .filter(organization_member::Column::UserId.eq(session.viewer().user_id))
        .one(session)
        .await?
        .ok_or(NOT_FOUND)
}

async fn end(
    session: &Session,
    member: organization_member::Model,
    action: Action,
) -> Result<organization_member::Model> {
    keep_an_owner(session, &member).await?;
    let metadata = json!({
        "user_id": member.user_id,
        "name": name_of(session, member.user_id).await?,
        "role": role_name(member.role),
    });
    // Recorded first: afterwards the caller who leaves would be nobody.
    audit::record(session, action, Some(member.id.0), metadata).await?;
    organization_member::Entity::delete_by_id((member.organization_id, member.id))
        .exec(session)
        .await?;
    session.note(Change::Member(member.id));
    session.note(Change::Access(Some(member.user_id)));
    session.note(Change::Entitlements);
    Ok(member)
}

/// Refuses to let the last owner go; exact, because the organization's lock is held.
async fn keep_an_owner(session: &Session, member: &organization_member::Model) -> Result<()> {
    if member.role != OrgRole::Owner {
        return Ok(());
    }
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let owners = all(tenant).filter(organization_member::Column::Role.eq(OrgRole::Owner));
    if owners.count(session).await? > 1 {
        return Ok(());
    }
    Err(Error::Conflict(
        "an organization always has an owner: transfer the ownership first".to_owned(),
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
    session.note(Change::Member(member.id));
    session.note(Change::Access(Some(member.user_id)));
    if own {
        // What follows in the same request is up to the new role.
        session.refresh_role().await?;
    }
    Ok(member)
}

/// What the audit log calls a person.
async fn name_of(session: &Session, id: UserId) -> Result<Option<String>> {
    let user = user::Entity::find_by_id(id).one(session).await?;
    Ok(user.and_then(|user| user.name.or(user.email)))
}
