//! The rules of invitations. Every change to the number of members and invitations holds the
//! organization's lock.

use chrono::TimeDelta;
use entity::{InvitationId, OrgRole, invitation, organization_member};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QuerySelect, Select, Set,
    sea_query::{Expr, LockType},
};
use serde_json::json;

use super::{Settings, reference::Reference, token::Token};
use crate::{
    audit::{self, Action},
    auth::Permission,
    error::{Error, Result},
    member,
    outbox::{self, Kind},
    page::{Cursor, Keyed, Page, Slice},
    plan,
    rate_limit::Throttle,
    seats::{self, IS_OPEN},
    tenancy::{Change, Fetch as _, Session, Tenant, UnitOfWork},
    text::Email,
    user::Received,
};

const NOT_FOUND: Error = Error::NotFound("invitation");

impl Keyed for invitation::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

/// An invitation with the link for the invited user.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) invitation: invitation::Model,
    /// `None` if the link is sent by e-mail.
    pub(super) link: Option<String>,
}

/// Selects the open invitations, including expired ones.
fn open(tenant: Tenant) -> Select<invitation::Entity> {
    unanswered(tenant).filter(Expr::cust(IS_OPEN.as_str()))
}

/// Selects the invitations that were neither accepted nor revoked. An address has at most one.
fn unanswered(tenant: Tenant) -> Select<invitation::Entity> {
    invitation::Entity::find()
        .filter(invitation::Column::OrganizationId.eq(tenant.organization_id))
        .filter(invitation::Column::AcceptedAt.is_null())
        .filter(invitation::Column::RevokedAt.is_null())
}

/// Whether an unanswered invitation can be accepted, and counts as a member.
async fn is_acceptable(session: &Session, invitation: &invitation::Model) -> Result<bool> {
    match invitation.invited_by {
        Some(inviter) if invitation.expires_at > session.now() => {
            member::may_invite(session, inviter, invitation.role).await
        }
        _ => Ok(false),
    }
}

/// Lists a page of the open invitations, newest first.
///
/// # Errors
///
/// Fails without an organization or without the permission.
pub async fn list(session: &Session, page: &Page) -> Result<Slice<invitation::Model>> {
    let tenant = session.authorize(Permission::MemberInvite)?;
    let rows = page
        .narrow(open(tenant), invitation::Column::CreatedAt, invitation::Column::Id)
        .fetch(session)
        .await?;
    Ok(page.slice(rows))
}

pub(super) async fn count(session: &Session) -> Result<u64> {
    Ok(open(session.authorize(Permission::MemberInvite)?).count(session).await?)
}

pub(super) async fn invite(session: &Session, email: Email, role: OrgRole) -> Result<Issued> {
    authorize_for(session, role)?;
    let lock = plan::lock(session).await?;
    let tenant = authorize_for(session, role)?;
    let email = email.into_string();
    if member::has_email(session, &email).await? {
        return Err(Error::Conflict(format!("`{email}` is already a member.")));
    }
    let known =
        unanswered(tenant).filter(invitation::Column::Email.eq(&email)).fetch_one(session).await?;
    let lapsed = match known {
        Some(known) if is_acceptable(session, &known).await? => {
            return Err(Error::Conflict(format!(
                "`{email}` already has an open invitation. Use `resendInvitation` to renew it."
            )));
        }
        known => known,
    };
    if let Some(lapsed) = &lapsed {
        // Renewing an invitation takes the permission for its former role too.
        authorize_for(session, lapsed.role)?;
    }
    let size = seats::team_size(session).await?;
    seats::require(session, &lock, size).await?;
    // An address has at most one unanswered invitation, so one that has lapsed is renewed.
    let invitation = match lapsed {
        Some(lapsed) => renew(session, lapsed, Some(role)).await?,
        None => insert(session, tenant, email, role).await?,
    };
    record(session, Action::InvitationCreated, &invitation).await?;
    issue(session, invitation).await
}

pub(super) async fn resend(session: &Session, id: Option<InvitationId>) -> Result<Issued> {
    session.authorize(Permission::MemberInvite)?;
    let lock = plan::lock(session).await?;
    let found = find_locked(session, id).await?;
    if !is_acceptable(session, &found).await? {
        // It did not count.
        let size = seats::team_size(session).await?;
        seats::require(session, &lock, size).await?;
    }
    let invitation = renew(session, found, None).await?;
    record(session, Action::InvitationResent, &invitation).await?;
    issue(session, invitation).await
}

pub(super) async fn revoke(
    session: &Session,
    id: Option<InvitationId>,
) -> Result<invitation::Model> {
    session.authorize(Permission::MemberInvite)?;
    plan::lock(session).await?;
    let found = find_locked(session, id).await?;
    let mut row = found.into_active_model();
    row.revoked_at = Set(Some(session.now()));
    let invitation = row.update(session).await?;
    record(session, Action::InvitationRevoked, &invitation).await?;
    Ok(invitation)
}

/// Makes the caller a member of the organization in which the session was opened for the
/// invitation. Every invalid token gets the same error: unknown, expired, used, revoked, or of an
/// inviter who may no longer invite.
///
/// # Errors
///
/// Fails when the invitation is invalid or for another address, the caller is already a member, or
/// the plan allows no more members.
pub async fn accept(
    session: &Session,
    reference: &Reference,
) -> Result<organization_member::Model> {
    // The session only reads until `assume_role` sets the invited role below.
    let received = require_open(session, reference).await?;
    let lock = plan::lock_alone(session).await.map_err(|_| NOT_FOUND)?;
    let invitation = require_acceptable(session, &received).await?;
    // Counted again: the plan may have shrunk since the invitation was counted.
    let members = member::count(session).await?;
    let member = member::join(session, invitation.role, invitation.invited_by).await?;
    seats::require(session, &lock, members).await?;
    session.assume_role(invitation.role).await?;
    let mut row = invitation.into_active_model();
    row.accepted_at = Set(Some(session.now()));
    let invitation = row.update(session).await?;
    record(session, Action::InvitationAccepted, &invitation).await?;
    Ok(member)
}

/// Declines an invitation to the caller, in whose organization the session was opened for it.
///
/// # Errors
///
/// Fails when the invitation is invalid or for another address, or the caller is already a member.
pub(super) async fn decline(session: &Session, reference: &Reference) -> Result<Received> {
    let received = require_open(session, reference).await?;
    plan::lock_alone(session).await.map_err(|_| NOT_FOUND)?;
    let invitation = require_acceptable(session, &received).await?;
    let mut row = invitation.into_active_model();
    row.revoked_at = Set(Some(session.now()));
    let invitation = row.update(session).await?;
    record(session, Action::InvitationDeclined, &invitation).await?;
    session.leave();
    Ok(received)
}

/// Enters the organization of the invitation for which the session was opened. A caller who cannot
/// accept it learns why.
async fn require_open(session: &Session, reference: &Reference) -> Result<Received> {
    let opened = session.invitation();
    let Some(received) = reference.find(session).await? else {
        return Err(opened.err().unwrap_or(NOT_FOUND));
    };
    received.require_no_obstacle(session)?;
    opened?;
    session.enter_invited();
    Ok(received)
}

/// The invitation, provided that it still has the same token and can be accepted.
async fn require_acceptable(session: &Session, received: &Received) -> Result<invitation::Model> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    open(tenant)
        .filter(invitation::Column::Id.eq(received.id))
        .filter(invitation::Column::TokenHash.eq(received.token_hash.clone()))
        .filter(invitation::Column::Email.eq(&received.email))
        .filter(invitation::Column::ExpiresAt.gt(session.now()))
        .fetch_one(session)
        .await?
        .ok_or(NOT_FOUND)
}

/// Checks the permission for the role: admins and owners take more than `MemberInvite`.
fn authorize_for(session: &Session, role: OrgRole) -> Result<Tenant> {
    session.authorize(Permission::MemberInvite)?;
    session.authorize(Permission::to_act_on(role, Permission::MemberInvite))
}

async fn insert(
    session: &Session,
    tenant: Tenant,
    email: String,
    role: OrgRole,
) -> Result<invitation::Model> {
    let id = InvitationId::new();
    let settings = session.settings();
    let row = invitation::ActiveModel {
        organization_id: Set(tenant.organization_id),
        id: Set(id),
        email: Set(email),
        role: Set(role),
        token_hash: Set(Token::of(&settings.secret_keys, id, 0).hash()),
        rotation: Set(0),
        invited_by: Set(Some(session.viewer().user_id)),
        expires_at: Set(session.now() + settings.area::<Settings>()?.term),
        ..Default::default()
    };
    Ok(invitation::Entity::insert(row).exec_with_returning(session).await?)
}

/// Gives the invitation a new token and expiry. The former token no longer works.
async fn renew(
    session: &Session,
    before: invitation::Model,
    role: Option<OrgRole>,
) -> Result<invitation::Model> {
    let (id, rotation) = (before.id, before.rotation + 1);
    let settings = session.settings();
    let mut row = before.into_active_model();
    row.rotation = Set(rotation);
    row.token_hash = Set(Token::of(&settings.secret_keys, id, rotation).hash());
    row.expires_at = Set(session.now() + settings.area::<Settings>()?.term);
    row.invited_by = Set(Some(session.viewer().user_id));
    if let Some(role) = role {
        row.role = Set(role);
    }
    Ok(row.update(session).await?)
}

async fn find_locked(session: &Session, id: Option<InvitationId>) -> Result<invitation::Model> {
    let tenant = session.authorize(Permission::MemberInvite)?;
    let found = unanswered(tenant)
        .filter(invitation::Column::Id.eq(id.ok_or(NOT_FOUND)?))
        .lock(LockType::Update)
        .fetch_one(session)
        .await?
        .ok_or(NOT_FOUND)?;
    authorize_for(session, found.role)?;
    Ok(found)
}

/// Enforces the limit on invitation e-mails in 24 hours. The outbox is the count, so the limit
/// holds across servers and restarts. The caller holds the organization's lock.
async fn require_mail(session: &Session) -> Result<()> {
    let (day, most) = (TimeDelta::days(1), session.settings().area::<Settings>()?.max_mails);
    let since = session.now() - day;
    let Some(at) = outbox::nth_newest(session, Kind::InvitationMail, since, most).await? else {
        return Ok(());
    };
    let wait = (at + day - session.now()).num_seconds().max(1);
    Err(Error::RateLimited {
        throttle: Throttle::InvitationMails,
        retry_after: wait.unsigned_abs(),
    })
}

/// Delivers the link: by e-mail after the commit, or through the inviter.
async fn issue(session: &Session, invitation: invitation::Model) -> Result<Issued> {
    if session.settings().area::<Settings>()?.sends_mail {
        require_mail(session).await?;
        let payload = json!({ "invitation_id": invitation.id, "rotation": invitation.rotation });
        outbox::add(session, Kind::InvitationMail, payload).await?;
        return Ok(Issued { invitation, link: None });
    }
    Ok(Issued { link: Some(link(session, &invitation)?), invitation })
}

/// Builds the link for the invited user. It is recomputed each time, because the database holds
/// only the token's hash.
///
/// # Errors
///
/// Fails when the token was created with a secret that is no longer configured.
pub(super) fn link(scope: &impl UnitOfWork, invitation: &invitation::Model) -> Result<String> {
    let settings = scope.settings();
    let invitation::Model { id, rotation, token_hash, .. } = invitation;
    let token =
        Token::known_as(token_hash, &settings.secret_keys, *id, *rotation).ok_or_else(|| {
            Error::internal(
                "the link of the invitation was created with a secret that SECRET_KEY no longer contains",
            )
        })?;
    Ok(token.link(&settings.area::<Settings>()?.public_url))
}

async fn record(session: &Session, action: Action, invitation: &invitation::Model) -> Result<()> {
    let metadata = json!({ "email": invitation.email, "role": member::role_name(invitation.role) });
    // Every change to an invitation changes the number of used memberships.
    session.note(Change::new(plan::ENTITLEMENTS));
    seats::follow(session).await?;
    audit::record(session, action, Some(invitation.id.0), metadata).await
}
