//! The placement of an organization and the state of its move, as stored in `app.placements`.

use chrono::{DateTime, Utc};
use migration::placement;
use pg::{Client, Row};
use serde_json::Value;
use uuid::Uuid;

use super::{Failure, placement::Placement};
use crate::{audit::Action, cli::owner_connection::Owner};

/// An organization and its placement.
#[derive(Debug)]
pub(super) struct Organization {
    pub(super) id: Uuid,
    /// The slug, or the id of a deleted organization.
    pub(super) name: String,
    pub(super) ended: bool,
    pub(super) placement: Placement,
    pub(super) version: Option<String>,
    /// How often the organization has moved to or from a dedicated database.
    pub(super) generation: i64,
    pub(super) moving_to: Option<Placement>,
    pub(super) old_placement: Option<Placement>,
    pub(super) keep_old_until: Option<DateTime<Utc>>,
    /// The kind of the suspension, and since when.
    pub(super) suspension: Option<(String, DateTime<Utc>)>,
}

const ORGANIZATIONS: &str = "SELECT i.id, o.slug, coalesce(p.placement, (SELECT 'remote' FROM app.database), 'shared') AS placement,
        p.version, coalesce(p.generation, 0) AS generation, p.moving_to, p.old_placement, p.keep_old_until,
        p.suspension, p.suspended_at
    FROM (SELECT id FROM app.organizations UNION SELECT organization_id FROM app.placements UNION SELECT $1) i (id)
        LEFT JOIN app.organizations o USING (id) LEFT JOIN app.placements p ON p.organization_id = i.id
    WHERE ($1 IS NULL AND i.id IS NOT NULL) OR i.id = $1 ORDER BY o.slug, i.id";

impl Organization {
    /// Finds the organization with this id, or with this current or retired slug.
    pub(super) async fn find(connection: &Client, name: &str) -> Result<Self, Failure> {
        // Slugs have no capital letters.
        let key = name.trim().to_ascii_lowercase();
        let id: Option<Uuid> =
            connection.query_one("SELECT app.find_organization($1)", &[&key]).await?;
        let id = id.ok_or_else(|| Failure::new(format!("there is no organization {name}")))?;
        Self::get(connection, id).await
    }

    pub(super) async fn get(connection: &Client, id: Uuid) -> Result<Self, Failure> {
        let row = connection.query_one::<Row>(ORGANIZATIONS, &[&id]).await?;
        Ok(Self::read(&row)?)
    }

    /// Lists all organizations by slug, then deleted ones, whose audit logs still exist.
    pub(super) async fn list(connection: &Client) -> pg::Result<Vec<Self>> {
        let rows = connection.query::<Row>(ORGANIZATIONS, &[&None::<Uuid>]).await?;
        rows.iter().map(Self::read).collect()
    }

    fn read(row: &Row) -> pg::Result<Self> {
        let placement = |column| {
            let name: Option<String> = row.try_get(column)?;
            Ok::<_, pg::Error>(name.map(|name| Placement::from_name(&name)))
        };
        let (id, slug): (Uuid, Option<String>) = (row.try_get("id")?, row.try_get("slug")?);
        let suspension: Option<String> = row.try_get("suspension")?;
        Ok(Self {
            id,
            ended: slug.is_none(),
            name: slug.unwrap_or_else(|| id.to_string()),
            placement: placement("placement")?.unwrap_or(Placement::Shared),
            version: row.try_get("version")?,
            generation: row.try_get("generation")?,
            moving_to: placement("moving_to")?,
            old_placement: placement("old_placement")?,
            keep_old_until: row.try_get("keep_old_until")?,
            suspension: suspension.zip(row.try_get("suspended_at")?),
        })
    }

    /// Connects to the organization's dedicated database and returns the organization as it is
    /// known there. `None` if the organization lives in the control database.
    pub(super) async fn open_dedicated(
        &self,
        owner: &Owner,
    ) -> Result<Option<(Client, Self)>, Failure> {
        let Some(name) = self.placement.database() else { return Ok(None) };
        let connection = dedicated(owner, name).await?;
        let there = Self::get(&connection, self.id).await?;
        if there.placement != Placement::Shared || there.generation != self.generation {
            return Err(Failure::new(format!(
                "{} should live in the database {name}, but does not. A move is unfinished or in progress: run `tenantry tenant move` again to finish it.",
                self.name
            )));
        }
        Ok(Some((connection, there)))
    }

    /// Refuses a dedicated schema that lacks migrations.
    pub(super) fn check_version(&self) -> Result<(), Failure> {
        let version = self.version.as_deref();
        if self.placement != Placement::Schema
            || version == Some(placement::SCHEMA_VERSION.as_str())
        {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the schema of {} has the migrations up to {}. Run `tenantry migrate` first.",
            self.name,
            version.unwrap_or("none")
        )))
    }

    /// Returns remarks on the placement for an operator.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.ended {
            remarks.push("deleted; its audit log is kept".to_owned());
        }
        if self.check_version().is_err() {
            remarks.push("lacks migrations: run `tenantry migrate`".to_owned());
        }
        if let Some((suspension, since)) = &self.suspension {
            remarks
                .push(format!("suspended ({suspension}) since {}", since.format("%F %H:%M UTC")));
        }
        match (&self.moving_to, &self.old_placement, self.keep_old_until) {
            (Some(target), ..) => remarks.push(format!("moving to {target}")),
            (None, Some(old), Some(until)) => {
                remarks.push(format!(
                    "stale copy in {old}, kept until {}",
                    until.format("%F %H:%M UTC")
                ));
            }
            _ => {}
        }
        remarks
    }

    /// Records an action in the organization's audit log, in the transaction of the action.
    pub(super) async fn record(
        &self,
        connection: &Client,
        placement: &Placement,
        what: (&str, Action),
        metadata: Value,
    ) -> pg::Result<()> {
        let in_schema = *placement == Placement::Schema;
        record(connection, in_schema, self.id, what, self.id, metadata).await
    }
}

/// The organization's audit log, in its dedicated schema or in the shared table.
pub(in crate::cli) fn audit_logs(in_schema: bool, organization: Uuid) -> String {
    if in_schema {
        format!("{}.audit_logs", placement::schema_of(organization))
    } else {
        "audit.audit_logs".to_owned()
    }
}

/// Records an action of a command in an organization's audit log.
pub(in crate::cli) async fn record(
    connection: &Client,
    in_schema: bool,
    organization: Uuid,
    (command, action): (&str, Action),
    resource: Uuid,
    metadata: Value,
) -> pg::Result<()> {
    let sql = format!(
        "INSERT INTO {} (organization_id, actor_name, action, resource_type, resource_id, metadata)
         VALUES ($1, $2, $3, $4, $5, $6)",
        audit_logs(in_schema, organization)
    );
    let (name, resource_type) = (action.name(), action.resource_type());
    connection
        .execute(&sql, &[&organization, &command, &name, &resource_type, &resource, &metadata])
        .await?;
    Ok(())
}

/// The organizations that have a dedicated schema: their placement, the target of a move, or a
/// stale copy.
pub(in crate::cli) async fn schemas(connection: &Client) -> pg::Result<Vec<Uuid>> {
    connection
        .query(
            "SELECT organization_id FROM app.placements
         WHERE to_regnamespace(app.placement_schema(organization_id)) IS NOT NULL ORDER BY organization_id",
            &[],
        )
        .await
}

/// Connects to a dedicated database as its owner, with the same text format of values as in the
/// control database.
pub(super) async fn dedicated(owner: &Owner, name: &str) -> Result<Client, Failure> {
    let failed = |error: Failure| Failure::new(format!("the database {name}: {error}"));
    let connection = owner.dedicated(name).await?;
    check_database(&connection).await.map_err(failed)?;
    connection.batch(SAME_TEXT).await?;
    Ok(connection)
}

/// Settings under which equal rows have equal text. Rows are compared and copied as text.
pub(super) const SAME_TEXT: &str =
    "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1;
    SET bytea_output = 'hex'; SET client_connection_check_interval = '500ms'";

/// Refuses a database of another version, and one in which a policy of the owner was changed: rows
/// that it hides would be lost.
pub(super) async fn check_database(connection: &Client) -> Result<(), Failure> {
    let applied: Vec<String> = connection
        .query("SELECT version FROM migration.seaql_migrations", &[])
        .await
        .map_err(|error| Failure::new(format!("the database is not migrated: {error}")))?;
    if let Some(problem) = migration::status(&applied).problem() {
        return Err(Failure::new(problem));
    }
    let bare: Option<String> = connection
        .query_opt(
            "SELECT name FROM migration.tenant_tables
         WHERE 4 <> (SELECT count(*) FROM pg_policy p
                     WHERE p.polrelid = name::regclass AND p.polroles = ARRAY['tenantry_owner'::regrole::oid] AND p.polpermissive
                       AND coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') = 'true'
                       AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')
            OR NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = name::regclass AND t.tgname = 'record_change' AND t.tgenabled = 'O')
         LIMIT 1",
            &[],
        )
        .await?;
    match bare {
        Some(table) => Err(Failure::new(format!(
            "{table} lacks a policy of tenantry_owner or its trigger record_change, which migrations created"
        ))),
        None => Ok(()),
    }
}
