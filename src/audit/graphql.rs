//! The audit trail as clients see it.

use async_graphql::{
    Context, ID, InputObject, InputValueResult, Object, Scalar, ScalarType, Subscription, Value,
    connection::EmptyFields,
};
use chrono::{DateTime, Datelike, Utc};
use entity::{AuditLogId, audit_log};

use super::ops::{self, Filter};
use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::{Connection, ContextExt, One, one, parse_id, requires_permission},
    text,
    user::{User, UserById},
};

#[derive(Debug)]
pub struct AuditLog(pub audit_log::Model);

impl From<audit_log::Model> for AuditLog {
    fn from(row: audit_log::Model) -> Self {
        Self(row)
    }
}

/// Something that somebody did in the organization. Entries are never changed, and outlive what
/// they tell about.
#[Object]
impl AuditLog {
    /// The entry's id.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// Who did it. Null when that person has left the organization, and when nobody did: see
    /// `actorName`.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        let id = self.0.actor_id?;
        ctx.load(UserById(id)).await.map(|row| row.map(User)).transpose()
    }

    /// What the person was called when they did it.
    async fn actor_name(&self) -> Option<&str> {
        self.0.actor_name.as_deref()
    }

    /// What was done, for example `project.created`.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// The type of what it was done to, for example `project`.
    async fn resource_type(&self) -> &str {
        &self.0.resource_type
    }

    /// The id of what it was done to.
    async fn resource_id(&self) -> Option<ID> {
        self.0.resource_id.map(ID::from)
    }

    /// Names, and old and new values, so that the entry reads without looking elsewhere.
    async fn metadata(&self, ctx: &Context<'_>) -> Result<JsonText> {
        ctx.spend(size(&self.0.metadata))?;
        Ok(JsonText(self.0.metadata.clone()))
    }

    /// The address that the request came from.
    async fn ip_address(&self) -> Option<&str> {
        self.0.ip_address()
    }

    /// When it was done.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// About how many bytes a value has as text.
fn size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(size).sum(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + size(value)).sum()
        }
        _ => 8,
    }
}

#[derive(Clone, Debug)]
pub struct JsonText(serde_json::Value);

/// Any value of JSON (RFC 8259).
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for JsonText {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value.into_json()?))
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}

/// Actions and types are short.
const MAX_WORD_CHARS: usize = 100;

/// A page of the audit log; without a total, because the log only grows.
pub type AuditLogConnection = Connection<AuditLog, EmptyFields>;

/// Which entries to show; what is left out does not narrow.
#[derive(Debug, Default, InputObject)]
pub struct AuditLogFilter {
    /// Done by the person with this id.
    pub actor_id: Option<ID>,
    /// This action, for example `project.created`.
    pub action: Option<String>,
    /// Done to this type of resource, for example `project`.
    pub resource_type: Option<String>,
    /// Done to the resource with this id.
    pub resource_id: Option<ID>,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

impl AuditLogFilter {
    /// The filter of an operation.
    ///
    /// # Errors
    ///
    /// For an id that is none.
    pub fn parse(self) -> Result<Filter> {
        let id = |field, id: Option<ID>| {
            id.map(|id| parse_id(&id).ok_or_else(|| Error::bad_input(field, "is not an id")))
                .transpose()
        };
        let word = |field, text: Option<String>| {
            text.map(|text| text::line(field, &text, MAX_WORD_CHARS)).transpose()
        };
        let time = |field, time: Option<DateTime<Utc>>| match time {
            Some(time) if !(1..=9999).contains(&time.year()) => {
                Err(Error::bad_input(field, "must be within the years 1 to 9999"))
            }
            time => Ok(time),
        };
        Ok(Filter {
            actor_id: id("filter.actorId", self.actor_id)?.map(entity::UserId),
            action: word("filter.action", self.action)?,
            resource_type: word("filter.resourceType", self.resource_type)?,
            resource_id: id("filter.resourceId", self.resource_id)?,
            since: time("filter.since", self.since)?,
            until: time("filter.until", self.until)?,
        })
    }
}

/// Entries of the audit log, as they are made.
#[derive(Debug, Default)]
pub struct AuditSubscription;

#[Subscription]
impl AuditSubscription {
    /// Something was recorded in the audit log of the current organization. Admins and up.
    #[graphql(directive = requires_permission::apply(Permission::AuditLogRead))]
    async fn audit_log_added(&self, ctx: &Context<'_>) -> Result<One<AuditLog>> {
        let &(at, id) = ctx.event::<(DateTime<Utc>, AuditLogId)>()?;
        let entry = ops::find(ctx.session()?, at, id).await?.ok_or(Error::NotFound("entry"))?;
        Ok(one(AuditLog(entry)))
    }
}
