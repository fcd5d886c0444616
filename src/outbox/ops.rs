//! Adding, claiming and finishing rows of the outbox. A row is claimed by one server at a time.

use std::num::NonZeroU32;

use chrono::{DateTime, Duration, Utc};
use entity::{OrganizationId, OutboxId, outbox};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, Set,
    sea_query::{LockBehavior, LockType},
};
use serde_json::Value;

use crate::{
    error::Result,
    sql::{sql, value_of},
    tenancy::{Fetch as _, SystemSession, UnitOfWork},
};

/// The kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Send an invitation e-mail.
    InvitationMail,
    /// Create a Stripe checkout page. The request that adds the row also finishes it.
    StripeCheckout,
    /// Create a page of Stripe's billing portal. The request that adds the row also finishes it.
    StripePortal,
    /// Change the cancellation of a Stripe subscription. The request that adds the row also
    /// finishes it.
    StripeCancellation,
    /// Set the quantity of a per-seat Stripe subscription to the size of the team.
    StripeSeats,
}

impl Kind {
    /// The name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvitationMail => "invitation_mail",
            Self::StripeCheckout => "stripe_checkout",
            Self::StripePortal => "stripe_portal",
            Self::StripeCancellation => "stripe_cancellation",
            Self::StripeSeats => "stripe_seats",
        }
    }

    /// Returns whether background work processes the row. A request that calls Stripe finishes its
    /// own row. If it fails, only the user repeats it.
    fn is_for_worker(self) -> bool {
        matches!(self, Self::InvitationMail | Self::StripeSeats)
    }
}

/// A row that is due, in any organization.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub struct Overdue {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The row.
    pub id: OutboxId,
}

/// Adds work to do after this transaction has committed.
///
/// # Errors
///
/// Fails without an organization.
pub async fn add(scope: &impl UnitOfWork, kind: Kind, payload: Value) -> Result<OutboxId> {
    insert(scope, kind, payload, kind.is_for_worker().then(|| scope.now())).await
}

/// Adds background work to do at this time, after this transaction has committed.
///
/// # Errors
///
/// Fails without an organization.
pub async fn add_due(
    scope: &impl UnitOfWork,
    kind: Kind,
    payload: Value,
    due_at: DateTime<Utc>,
) -> Result<OutboxId> {
    insert(scope, kind, payload, Some(due_at)).await
}

async fn insert(
    scope: &impl UnitOfWork,
    kind: Kind,
    payload: Value,
    due_at: Option<DateTime<Utc>>,
) -> Result<OutboxId> {
    let organization_id = scope.organization_id()?;
    let id = OutboxId::new();
    let row = outbox::ActiveModel {
        organization_id: Set(organization_id),
        id: Set(id),
        kind: Set(kind.name().to_owned()),
        payload: Set(payload),
        due_at: Set(due_at),
        ..Default::default()
    };
    outbox::Entity::insert(row).exec_without_returning(scope).await?;
    Ok(id)
}

/// Returns whether unprocessed work of a kind is due until `until`.
///
/// # Errors
///
/// Fails without an organization.
pub async fn is_waiting(scope: &impl UnitOfWork, kind: Kind, until: DateTime<Utc>) -> Result<bool> {
    let row = outbox::Entity::find()
        .filter(outbox::Column::OrganizationId.eq(scope.organization_id()?))
        .filter(outbox::Column::Kind.eq(kind.name()))
        .filter(outbox::Column::ProcessedAt.is_null())
        .filter(outbox::Column::DueAt.lte(until))
        .fetch_one(scope)
        .await?;
    Ok(row.is_some())
}

/// Returns the row of a kind that background work processed last, or tried to.
///
/// # Errors
///
/// Fails without an organization.
pub async fn last(scope: &impl UnitOfWork, kind: Kind) -> Result<Option<outbox::Model>> {
    let row = outbox::Entity::find()
        .filter(outbox::Column::OrganizationId.eq(scope.organization_id()?))
        .filter(outbox::Column::Kind.eq(kind.name()))
        .filter(outbox::Column::Attempts.gt(0))
        .order_by_desc(outbox::Column::UpdatedAt)
        .fetch_one(scope)
        .await?;
    Ok(row)
}

/// Returns when the `nth` newest row of a kind was added, counted from 1. Returns `None` if fewer
/// were added after `since`.
///
/// # Errors
///
/// Fails without an organization.
pub async fn nth_newest(
    scope: &impl UnitOfWork,
    kind: Kind,
    since: DateTime<Utc>,
    nth: NonZeroU32,
) -> Result<Option<DateTime<Utc>>> {
    let organization_id = scope.organization_id()?;
    let row = outbox::Entity::find()
        .filter(outbox::Column::OrganizationId.eq(organization_id))
        .filter(outbox::Column::Kind.eq(kind.name()))
        .filter(outbox::Column::CreatedAt.gt(since))
        .order_by_desc(outbox::Column::CreatedAt)
        .offset(u64::from(nth.get()) - 1)
        .fetch_one(scope)
        .await?;
    Ok(row.map(|row| row.created_at))
}

/// Lists due rows of a kind, oldest first, in all organizations except those in the databases
/// `except`.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn due(
    session: &SystemSession,
    kind: Kind,
    most: i32,
    except: Vec<String>,
) -> Result<Vec<Overdue>> {
    let due = sql(
        "SELECT organization_id, id FROM app.due_outbox($1, $2, $3, $4)",
        [kind.name().into(), session.now().into(), most.into(), except.into()],
    );
    let rows = session.query_all_raw(due).await?;
    rows.iter().map(|row| Ok(Overdue::from_query_result(row, "")?)).collect()
}

/// Claims a row for the duration of the lease. Returns `None` if another server has claimed or
/// finished it.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn claim(
    session: &SystemSession,
    id: OutboxId,
    lease: Duration,
) -> Result<Option<outbox::Model>> {
    let organization_id = session.organization_id()?;
    let found = outbox::Entity::find_by_id((organization_id, id))
        .filter(outbox::Column::ProcessedAt.is_null())
        .filter(outbox::Column::DueAt.lte(session.now()))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .fetch_one(session)
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

/// Marks a row as processed. A `reason` says why the work was not needed.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn finish(scope: &impl UnitOfWork, id: OutboxId, reason: Option<&str>) -> Result<()> {
    let organization_id = scope.organization_id()?;
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

/// Schedules a failed row for another attempt.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn postpone(
    session: &SystemSession,
    id: OutboxId,
    until: DateTime<Utc>,
    error: &str,
) -> Result<()> {
    let organization_id = session.organization_id()?;
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

/// Deletes old processed rows, here and in Stripe's inbox. Returns how many.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn forget_processed(session: &SystemSession) -> Result<i64> {
    value_of(session, "forgotten", sql("SELECT app.delete_processed() AS forgotten", [])).await
}
