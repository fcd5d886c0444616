//! The audit log in the GraphQL API: entries, filters and the subscription to new entries.

use async_graphql::{Context, ID, InputObject, Object, Subscription, connection::EmptyFields};
use chrono::{DateTime, Utc};
use entity::audit_log;

use super::{
    Action,
    ops::{self, Filter},
};
use crate::{
    auth::Permission,
    calendar,
    declared::Declared as _,
    error::{Error, Result},
    graphql::{
        Connection, ContextExt, Json, Loaded, One, connection, on_change, one, page_cost, parse_id,
        requires_permission,
    },
    page::Page,
    tenancy::Change,
    text,
    user::{User, UserById},
};

/// The queries of the audit log that need no organization.
#[derive(Debug, Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// All actions that the audit log records, for example `project.created`. Each is a value for
    /// `AuditLogFilter.action`, and the part before the dot one for `AuditLogFilter.resourceType`.
    async fn audit_actions(&self) -> Vec<&str> {
        Action::all().iter().map(|action| action.name()).collect()
    }
}

#[derive(Debug)]
pub struct AuditLog(pub audit_log::Model);

impl From<audit_log::Model> for AuditLog {
    fn from(row: audit_log::Model) -> Self {
        Self(row)
    }
}

/// An entry in the organization's audit log. Entries never change, and they remain when the
/// resource they describe is deleted.
#[Object]
impl AuditLog {
    /// The ID of the entry.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The user who performed the action. Null if the user has left the organization, or if the
    /// system or the operator performed it. `actorName` identifies the actor in those cases.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<Loaded<User>>> {
        let id = self.0.actor_id?;
        ctx.load(UserById(id)).await.map(|row| row.map(User).map(Loaded)).transpose()
    }

    /// The name of the actor at the time of the action.
    async fn actor_name(&self) -> Option<&str> {
        self.0.actor_name.as_deref()
    }

    /// The action, for example `project.created`.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// The type of the affected resource, for example `project`.
    async fn resource_type(&self) -> &str {
        &self.0.resource_type
    }

    /// The ID of the affected resource.
    async fn resource_id(&self) -> Option<ID> {
        self.0.resource_id.map(ID::from)
    }

    /// Details of the action, such as names, and old and new values. Each entry is readable on its
    /// own. Texts of more than 200 characters are cut, and their SHA-256 digest is in
    /// `NAME_sha256`.
    async fn metadata(&self, ctx: &Context<'_>) -> Result<Json> {
        Json::returned(ctx, &self.0.metadata)
    }

    /// The IP address that the request came from. Null if no user performed the action, if it
    /// changed the user's own name or identities, or if it followed from another action.
    async fn ip_address(&self) -> Option<&str> {
        self.0.ip_address()
    }

    /// When the action was performed.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

const MAX_WORD_CHARS: usize = 100;

/// A page of the audit log. It has no `totalCount`, because counting a log that only grows gets
/// ever slower.
pub type AuditLogConnection = Connection<AuditLog, EmptyFields>;

/// Conditions on audit log entries. An entry must match all conditions that are set.
#[derive(Debug, Default, InputObject)]
pub struct AuditLogFilter {
    /// Only actions of the user with this ID.
    pub actor_id: Option<ID>,
    /// Only this action, for example `project.created`.
    pub action: Option<String>,
    /// Only actions on this type of resource, for example `project`.
    pub resource_type: Option<String>,
    /// Only actions on the resource with this ID.
    pub resource_id: Option<ID>,
    /// Only entries from this time on, inclusive.
    pub since: Option<DateTime<Utc>>,
    /// Only entries before this time, exclusive.
    pub until: Option<DateTime<Utc>>,
}

impl AuditLogFilter {
    /// Parses the filter.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`] for a malformed ID, a text that is too long, or a year outside 1 to
    /// 9999.
    pub fn parse(self) -> Result<Filter> {
        let id = |field, id: Option<ID>| {
            id.map(|id| parse_id(&id).ok_or_else(|| Error::bad_input(field, "is not a valid ID")))
                .transpose()
        };
        let word = |field, text: Option<String>| {
            text.map(|text| text::line(field, &text, MAX_WORD_CHARS)).transpose()
        };
        Ok(Filter {
            actor_id: id("filter.actorId", self.actor_id)?.map(entity::UserId),
            action: word("filter.action", self.action)?,
            resource_type: word("filter.resourceType", self.resource_type)?,
            resource_id: id("filter.resourceId", self.resource_id)?,
            since: calendar::check_year("filter.since", self.since)?,
            until: calendar::check_year("filter.until", self.until)?,
        })
    }
}

/// The audit log as a field of `Organization`.
#[derive(Debug, Default)]
pub struct AuditOfOrganization;

#[Object]
impl AuditOfOrganization {
    /// The audit log, newest first. Admins and owners only. It has no `totalCount`.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::AuditLogRead)
    )]
    async fn audit_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only entries that match the filter.")] filter: Option<AuditLogFilter>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<AuditLogConnection>> {
        let logs = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            let filter = filter.unwrap_or_default().parse()?;
            let slice = ops::list(ctx.session()?, &filter, &page).await?;
            Ok(connection(slice, EmptyFields))
        };
        Some(logs.await)
    }
}

/// The subscriptions to the audit log.
#[derive(Debug, Default)]
pub struct AuditSubscription;

#[Subscription]
impl AuditSubscription {
    /// Sends each new entry in the audit log of the current organization. Admins and owners only.
    #[graphql(
        directive = requires_permission::apply(Permission::AuditLogRead),
        directive = on_change::apply(ops::TOPIC.to_owned())
    )]
    async fn audit_log_added(&self, ctx: &Context<'_>) -> Result<One<AuditLog>> {
        let change = ctx.event::<Change>()?;
        let at = change.at.ok_or_else(|| Error::internal("the change has no time"))?;
        let entry = ops::find(ctx.session()?, at, change.row()?).await?;
        let entry = entry.ok_or(Error::NotFound("audit log entry"))?;
        Ok(one(AuditLog(entry)))
    }
}
