//! Writing, reading and exporting audit log entries. Every entry commits or rolls back together
//! with the change it describes.

use chrono::{DateTime, Utc};
use entity::{AuditLogId, UserId, audit_log};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
    sea_query::{Expr, ExprTrait},
};
use serde_json::Value;
use uuid::Uuid;

use super::Action;
use crate::{
    auth::Permission,
    children::Children,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    sql::sql,
    tenancy::{Actor, Change, Fetch as _, Session, SystemSession, UnitOfWork},
    text::sha256,
};

/// The topic of new entries.
pub(super) const TOPIC: &str = "audit_log";

impl Keyed for audit_log::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

/// The entries about each resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OfResource;

impl Children for OfResource {
    type Entity = audit_log::Entity;

    fn all(session: &Session) -> Result<Select<audit_log::Entity>> {
        matching(session, &Filter::default())
    }

    fn columns() -> [audit_log::Column; 3] {
        [audit_log::Column::ResourceId, audit_log::Column::CreatedAt, audit_log::Column::Id]
    }

    fn parent(row: &audit_log::Model) -> Option<Uuid> {
        row.resource_id
    }
}

/// Conditions on entries. `None` places no condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The user who performed the action.
    pub actor_id: Option<UserId>,
    /// The action.
    pub action: Option<String>,
    /// The type of the affected resource.
    pub resource_type: Option<String>,
    /// The affected resource.
    pub resource_id: Option<Uuid>,
    /// The earliest time, inclusive.
    pub since: Option<DateTime<Utc>>,
    /// The latest time, exclusive.
    pub until: Option<DateTime<Utc>>,
}

/// Records an action in the current organization. The database adds the actor and the time.
///
/// The actor is the session's user, under their current name. The time is that of the action rather
/// than of the transaction, so the actions of one request keep their order. Background work has no
/// user and gives its reason as the name.
///
/// # Errors
///
/// Fails without an organization. The caller must then fail as well.
pub async fn record(
    scope: &impl UnitOfWork,
    action: Action,
    resource_id: Option<Uuid>,
    metadata: Value,
) -> Result<()> {
    let organization_id = scope.organization_id()?;
    let (insert, last): (_, sea_orm::Value) = match scope.actor() {
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
    let row = scope.query_one_raw(sql(insert, values)).await?;
    let row =
        row.ok_or_else(|| Error::internal("the insert of the audit log entry returned no row"))?;
    let at = Some(row.try_get("", "created_at")?);
    scope.note(Change { at, ..Change::of(TOPIC, row.try_get("", "id")?) });
    Ok(())
}

/// Adds the fields that differ, each as `old_NAME` and `NAME`.
pub fn add_changes(
    metadata: &mut Value,
    fields: impl IntoIterator<Item = (&'static str, Value, Value)>,
) {
    for (name, before, after) in fields {
        if before != after {
            metadata[format!("old_{name}")] = before;
            metadata[name] = after;
        }
    }
}

/// Longer texts are stored as their beginning and a digest, because entries are kept for years and
/// listed by the page.
const MAX_TEXT_CHARS: usize = 200;

/// Cuts long texts and adds the SHA-256 digest of each as `NAME_sha256`.
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

/// Lists a page of the audit log, newest first.
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

/// Lists up to `most` entries after a cursor, oldest first. Exports page through the whole log with
/// it.
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
    Ok(ordered.limit(most).fetch(session).await?)
}

/// Lifts the idle timeout of this transaction: the consumer of an export may pause between pages.
pub async fn allow_slow_reader(session: &SystemSession) -> Result<()> {
    let allow = "SELECT set_config('idle_in_transaction_session_timeout', '0', true)";
    session.execute_unprepared(allow).await?;
    Ok(())
}

/// Creates the missing partitions of the coming months. Returns how many were missing.
pub async fn ensure_partitions(session: &SystemSession) -> Result<usize> {
    Ok(session.query_all_raw(sql("SELECT audit.ensure_partitions()", [])).await?.len())
}

/// Finds an entry by its key. Returns `None` if it belongs to another organization.
pub async fn find(
    session: &Session,
    at: DateTime<Utc>,
    id: AuditLogId,
) -> Result<Option<audit_log::Model>> {
    let tenant = session.authorize(Permission::AuditLogRead)?;
    Ok(audit_log::Entity::find_by_id((tenant.organization_id, at, id)).fetch_one(session).await?)
}

fn matching(scope: &impl UnitOfWork, filter: &Filter) -> Result<Select<audit_log::Entity>> {
    use audit_log::Column;
    let organization_id = scope.require(Permission::AuditLogRead)?;
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
