//! The rows of the outbox.

use std::num::NonZeroU32;

use chrono::{DateTime, Duration, Utc};
use entity::{OrganizationId, OutboxId, outbox};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, Set, Statement,
    sea_query::{LockBehavior, LockType},
};
use serde_json::Value;

use crate::{
    auth::Permission,
    error::Result,
    tenancy::{SystemSession, UnitOfWork},
};

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An invitation goes out by mail.
    InvitationMail,
    /// A checkout at Stripe's was begun by the request that wrote the row, which also finishes it.
    StripeCheckout,
    /// As before, of the portal.
    StripePortal,
    /// As before, of the end of a subscription.
    StripeCancellation,
}

impl Kind {
    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvitationMail => "invitation_mail",
            Self::StripeCheckout => "stripe_checkout",
            Self::StripePortal => "stripe_portal",
            Self::StripeCancellation => "stripe_cancellation",
        }
    }

    /// A request that speaks with Stripe works its own rows off, and nobody repeats them: the
    /// person does.
    fn is_for_worker(self) -> bool {
        self == Self::InvitationMail
    }
}

/// Something that waits to be done, in some organization.
#[derive(Clone, Copy, Debug)]
pub struct Overdue {
    /// Where.
    pub organization_id: OrganizationId,
    /// What.
    pub id: OutboxId,
}

/// Writes down what must happen once this transaction has committed.
///
/// # Errors
///
/// Without an organization.
pub async fn add(scope: &impl UnitOfWork, kind: Kind, payload: Value) -> Result<OutboxId> {
    let organization_id = scope.organization(Permission::OrganizationRead)?;
    let id = OutboxId::new();
    let row = outbox::ActiveModel {
        organization_id: Set(organization_id),
        id: Set(id),
        kind: Set(kind.name().to_owned()),
        payload: Set(payload),
        due_at: Set(kind.is_for_worker().then(|| scope.now())),
        ..Default::default()
    };
    outbox::Entity::insert(row).exec_without_returning(scope).await?;
    Ok(id)
}

/// When the `nth` newest row of a kind was added, counted from 1; `None` when fewer were added
/// after `since`.
///
/// # Errors
///
/// Without an organization.
pub async fn nth_newest(
    scope: &impl UnitOfWork,
    kind: Kind,
    since: DateTime<Utc>,
    nth: NonZeroU32,
) -> Result<Option<DateTime<Utc>>> {
    let organization_id = scope.organization(Permission::OrganizationRead)?;
    let row = outbox::Entity::find()
        .filter(outbox::Column::OrganizationId.eq(organization_id))
        .filter(outbox::Column::Kind.eq(kind.name()))
        .filter(outbox::Column::CreatedAt.gt(since))
        .order_by_desc(outbox::Column::CreatedAt)
        .offset(u64::from(nth.get()) - 1)
        .limit(1)
        .one(scope)
        .await?;
    Ok(row.map(|row| row.created_at))
}

/// What waits of a kind, oldest first, in whatever organizations, but for those that live in the
/// databases `except`.
///
/// # Errors
///
/// When the database fails.
pub async fn due(
    session: &SystemSession,
    kind: Kind,
    most: i32,
    except: Vec<String>,
) -> Result<Vec<Overdue>> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT organization_id, id FROM app.due_outbox($1, $2, $3, $4)",
        [kind.name().into(), session.now().into(), most.into(), except.into()],
    );
    let rows = session.query_all_raw(statement).await?;
    let rows = rows.into_iter().map(|row| {
        let organization_id = row.try_get("", "organization_id")?;
        Ok(Overdue { organization_id, id: row.try_get("", "id")? })
    });
    rows.collect()
}

/// Takes a row for a while, in which no other server takes it; `None` when somebody has done so, or
/// has done the work.
///
/// # Errors
///
/// When the database fails.
pub async fn claim(
    session: &SystemSession,
    id: OutboxId,
    lease: Duration,
) -> Result<Option<outbox::Model>> {
    let organization_id = session.organization(Permission::OrganizationRead)?;
    let found = outbox::Entity::find_by_id((organization_id, id))
        .filter(outbox::Column::ProcessedAt.is_null())
        .filter(outbox::Column::DueAt.lte(session.now()))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(session)
        .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let attempts = row.attempts + 1;
    let mut row = row.into_active_model();
    row.attempts = Set(attempts);
    row.due_at = Set(Some(session.now() + lease));
    row.error = Set(None);
    Ok(Some(row.update(session).await?))
}

/// It is done, or (with a reason) need not be done any more.
///
/// # Errors
///
/// When the database fails.
pub async fn finish(scope: &impl UnitOfWork, id: OutboxId, reason: Option<&str>) -> Result<()> {
    let organization_id = scope.organization(Permission::OrganizationRead)?;
    let row = outbox::ActiveModel {
        organization_id: Set(organization_id),
        id: Set(id),
        processed_at: Set(Some(scope.now())),
        error: Set(reason.map(ToOwned::to_owned)),
        ..Default::default()
    };
    outbox::Entity::update(row).exec(scope).await?;
    Ok(())
}

/// It failed, and is to be tried again later.
///
/// # Errors
///
/// When the database fails.
pub async fn postpone(
    session: &SystemSession,
    id: OutboxId,
    until: DateTime<Utc>,
    error: &str,
) -> Result<()> {
    let organization_id = session.organization(Permission::OrganizationRead)?;
    let row = outbox::ActiveModel {
        organization_id: Set(organization_id),
        id: Set(id),
        due_at: Set(Some(until)),
        error: Set(Some(error.to_owned())),
        ..Default::default()
    };
    outbox::Entity::update(row).exec(session).await?;
    Ok(())
}

/// Forgets what was done long ago, here and in Stripe's inbox; tells how much.
///
/// # Errors
///
/// When the database fails.
pub async fn forget_processed(session: &SystemSession) -> Result<i64> {
    let statement =
        Statement::from_string(DbBackend::Postgres, "SELECT app.forget_processed() AS forgotten");
    let row = session.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "forgotten")).transpose()?.unwrap_or_default())
}
