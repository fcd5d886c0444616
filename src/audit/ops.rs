//! The rules of the audit trail.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use entity::{AuditLogId, UserId, audit_log};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Statement,
    sea_query::{Expr, ExprTrait},
};
use serde_json::Value;
use uuid::Uuid;

use super::Action;
use crate::{
    auth::Permission,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    tenancy::{Actor, Change, Fetch as _, Session, SystemSession, UnitOfWork},
};

impl Keyed for audit_log::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

/// Which rows are asked for; `None` asks for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Done by this person.
    pub actor_id: Option<UserId>,
    /// This action.
    pub action: Option<String>,
    /// About this type of resource.
    pub resource_type: Option<String>,
    /// About this resource.
    pub resource_id: Option<Uuid>,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Records what was done in the current organization. The database adds who acted and when: the
/// user of the session under the name they have now, at the time of the act and not of the
/// transaction, so that several acts of one request stand in their order. Work without a user gives
/// its reason as the name.
///
/// # Errors
///
/// Without an organization; the mutation must then fail as well.
pub async fn record(
    scope: &impl UnitOfWork,
    action: Action,
    resource_id: Option<Uuid>,
    metadata: Value,
) -> Result<()> {
    let organization_id = scope.organization(Permission::OrganizationRead)?;
    let (sql, last): (_, sea_orm::Value) = match scope.actor() {
        Actor::User(_, client_ip) => (
            "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, metadata, ip_address)
             VALUES ($1, $2, $3, $4, $5, $6::text::inet) RETURNING created_at, id",
            client_ip.map(|ip| ip.to_string()).into(),
        ),
        Actor::System(reason) => (
            "INSERT INTO audit_logs (organization_id, action, resource_type, resource_id, metadata, actor_name)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING created_at, id",
            reason.into(),
        ),
    };
    let values = [
        organization_id.into(),
        action.name().into(),
        action.resource_type().into(),
        resource_id.into(),
        shortened(metadata).into(),
        last,
    ];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let row = scope.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("nothing was recorded"))?;
    scope.note(Change::AuditLog(row.try_get("", "created_at")?, row.try_get("", "id")?));
    Ok(())
}

/// A longer text is recorded by its beginning and its digest: the log is kept for long, and read by
/// the page.
const MAX_TEXT_CHARS: usize = 200;

/// Cuts long texts, and says in `NAME_sha256` what each was.
fn shortened(mut metadata: Value) -> Value {
    let Value::Object(fields) = &mut metadata else {
        return metadata;
    };
    let mut digests = Vec::new();
    for (name, value) in fields.iter_mut() {
        if let Value::String(text) = value
            && let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS)
        {
            digests.push((format!("{name}_sha256"), sha256(text)));
            text.truncate(end);
        }
    }
    fields.extend(digests.into_iter().map(|(name, digest)| (name, digest.into())));
    metadata
}

fn sha256(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A page of the trail, newest first.
///
/// # Errors
///
/// Without an organization, or without the permission.
pub async fn list(
    session: &Session,
    filter: &Filter,
    page: &Page,
) -> Result<Slice<audit_log::Model>> {
    let rows = page
        .narrow(matching(session, filter)?, audit_log::Column::CreatedAt, audit_log::Column::Id)
        .fetch(session)
        .await?;
    Ok(page.slice(rows))
}

/// Up to `most` entries after another one, oldest first: for exports, which read all of them.
///
/// # Errors
///
/// When the database fails.
pub async fn page_forward(
    session: &SystemSession,
    filter: &Filter,
    after: Option<&Cursor>,
    most: u64,
) -> Result<Vec<audit_log::Model>> {
    use audit_log::Column;
    let key = || Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
    let mut rows = matching(session, filter)?;
    if let Some(Cursor { at, id }) = after {
        rows = rows.filter(key().gt(Expr::tuple([Expr::value(*at), Expr::value(*id)])));
    }
    let ordered = rows.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id);
    ordered.limit(most).fetch(session).await
}

/// Whoever reads an export may take their time between two pages.
///
/// # Errors
///
/// When the database fails.
pub async fn allow_slow_reader(session: &SystemSession) -> Result<()> {
    session.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    Ok(())
}

/// Makes the partitions of the coming months, where the log is held in partitions. Tells how many
/// were missing.
///
/// # Errors
///
/// When the database fails.
pub async fn ensure_partitions(session: &SystemSession) -> Result<usize> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT audit.ensure_partitions()");
    Ok(session.query_all_raw(statement).await?.len())
}

/// One entry, by its key; `None` when it is another organization's.
///
/// # Errors
///
/// Without an organization, or without the permission.
pub async fn find(
    session: &Session,
    at: DateTime<Utc>,
    id: AuditLogId,
) -> Result<Option<audit_log::Model>> {
    let tenant = session.authorize(Permission::AuditLogRead)?;
    Ok(audit_log::Entity::find_by_id((tenant.organization_id, at, id)).one(session).await?)
}

fn matching(scope: &impl UnitOfWork, filter: &Filter) -> Result<Select<audit_log::Entity>> {
    use audit_log::Column;
    let organization_id = scope.organization(Permission::AuditLogRead)?;
    let condition = Condition::all()
        .add(Column::OrganizationId.eq(organization_id))
        .add_option(filter.actor_id.map(|id| Column::ActorId.eq(id)))
        .add_option(filter.action.as_ref().map(|action| Column::Action.eq(action.as_str())))
        .add_option(
            filter.resource_type.as_ref().map(|kind| Column::ResourceType.eq(kind.as_str())),
        )
        .add_option(filter.resource_id.map(|id| Column::ResourceId.eq(id)))
        .add_option(filter.since.map(|time| Column::CreatedAt.gte(time)))
        .add_option(filter.until.map(|time| Column::CreatedAt.lt(time)));
    Ok(audit_log::Entity::find().filter(condition))
}
