//! Where an organization lives, and how it is on its way, as `app.placements` says.

use std::fmt;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use migration::{Status, placement};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::Failure;
use crate::audit::Action;

/// Where an organization can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Home {
    /// In the tables that all share.
    Shared,
    /// In a schema of its own.
    Schema,
}

impl Home {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        if name == "schema" { Self::Schema } else { Self::Shared }
    }

    /// An organization's table there.
    pub(super) fn table(self, table: &placement::Table, organization: Uuid) -> String {
        match self {
            Self::Shared => table.name.to_owned(),
            Self::Schema => table.in_schema(&placement::schema_of(organization)),
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Shared => "the shared tables",
            Self::Schema => "a schema of its own",
        })
    }
}

/// An organization, and where it lives.
#[derive(Debug)]
pub(super) struct Organization {
    pub(super) id: Uuid,
    /// The slug; for one that has ended, the id.
    pub(super) name: String,
    pub(super) ended: bool,
    pub(super) home: Home,
    pub(super) version: Option<String>,
    pub(super) moving_to: Option<Home>,
    pub(super) old_home: Option<Home>,
    pub(super) keep_old_until: Option<DateTime<Utc>>,
}

const ORGANIZATIONS: &str = "SELECT i.id, o.slug, coalesce(p.home, 'shared') AS home, p.version, p.moving_to, p.old_home, p.keep_old_until
    FROM (SELECT id FROM app.organizations UNION SELECT organization_id FROM app.placements UNION SELECT $1) i (id)
        LEFT JOIN app.organizations o USING (id) LEFT JOIN app.placements p ON p.organization_id = i.id
    WHERE ($1 IS NULL AND i.id IS NOT NULL) OR i.id = $1 ORDER BY o.slug, i.id";

impl Organization {
    /// The organization with this slug, current or retired, or this id.
    pub(super) async fn find(connection: &mut PgConnection, name: &str) -> Result<Self, Failure> {
        let id: Option<Uuid> = sqlx::query_scalar("SELECT app.find_organization($1)")
            .bind(name.trim())
            .fetch_one(&mut *connection)
            .await?;
        let id = id.ok_or_else(|| Failure::new(format!("there is no organization {name}")))?;
        Self::get(connection, id).await
    }

    pub(super) async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Self, Failure> {
        let row = sqlx::query(ORGANIZATIONS).bind(id).fetch_one(connection).await?;
        Ok(Self::read(&row))
    }

    /// Everyone, by slug; last those that have ended, whose audit log is still somewhere.
    pub(super) async fn list(connection: &mut PgConnection) -> Result<Vec<Self>, sqlx::Error> {
        let rows = sqlx::query(ORGANIZATIONS).bind(None::<Uuid>).fetch_all(connection).await?;
        Ok(rows.iter().map(Self::read).collect())
    }

    fn read(row: &sqlx::postgres::PgRow) -> Self {
        let home = |column| row.get::<Option<String>, _>(column).map(|name| Home::from_name(&name));
        let (id, slug): (Uuid, Option<String>) = (row.get("id"), row.get("slug"));
        Self {
            id,
            ended: slug.is_none(),
            name: slug.unwrap_or_else(|| id.to_string()),
            home: home("home").unwrap_or(Home::Shared),
            version: row.get("version"),
            moving_to: home("moving_to"),
            old_home: home("old_home"),
            keep_old_until: row.get("keep_old_until"),
        }
    }

    /// Refuses a schema that lacks steps.
    pub(super) fn check_version(&self) -> Result<(), Failure> {
        let version = self.version.as_deref();
        if self.home == Home::Shared || version == Some(placement::SCHEMA_VERSION) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the schema of {} has the steps up to {}: run tenantry migrate first",
            self.name,
            version.unwrap_or("nothing")
        )))
    }

    /// What else is to be known about where it lives, for people.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.ended {
            remarks.push("has ended; its audit log is kept".to_owned());
        }
        if self.check_version().is_err() {
            remarks.push("lacks migrations: run tenantry migrate".to_owned());
        }
        match (self.moving_to, self.old_home, self.keep_old_until) {
            (Some(target), ..) => remarks.push(format!("on its way to {target}")),
            (None, Some(old), Some(until)) => {
                remarks.push(format!(
                    "old copy in {old}, kept until {}",
                    until.format("%F %H:%M UTC")
                ));
            }
            _ => {}
        }
        remarks
    }

    /// Records in the log of the organization, where it lives, in the transaction that does it.
    pub(super) async fn record(
        &self,
        connection: &mut PgConnection,
        home: Home,
        (command, action): (&str, Action),
        metadata: Value,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "INSERT INTO {} (organization_id, actor_name, action, resource_type, resource_id, metadata)
             VALUES ($1, $2, $3, $4, $1, $5)",
            audit_logs(home == Home::Schema, self.id)
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.id)
            .bind(command)
            .bind(action.name())
            .bind(action.resource_type())
            .bind(json!(metadata))
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// An organization's audit log, in its schema or in the shared table.
pub(in crate::cli) fn audit_logs(in_schema: bool, organization: Uuid) -> String {
    if in_schema {
        format!("{}.audit_logs", placement::schema_of(organization))
    } else {
        "audit.audit_logs".to_owned()
    }
}

/// The organizations of which there is a schema, whatever lies in it: their home, what is being made ready, or an old copy.
pub(in crate::cli) async fn schemas(
    connection: &mut PgConnection,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT organization_id FROM app.placements
         WHERE to_regnamespace(app.placement_schema(organization_id)) IS NOT NULL ORDER BY organization_id",
    )
    .fetch_all(connection)
    .await
}

/// Refuses a database of another version, and one whose owner's policies were tampered with: rows that they hide would be lost.
pub(super) async fn check_database(connection: &mut PgConnection) -> Result<(), Failure> {
    let applied: Vec<String> = sqlx::query_scalar("SELECT version FROM migration.seaql_migrations")
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| Failure::new(format!("the database was never migrated: {error}")))?;
    match migration::status(&applied) {
        Status::Current => {}
        Status::Behind(count) => {
            return Err(Failure::new(format!(
                "the database lacks {count} migrations: run tenantry migrate"
            )));
        }
        Status::Ahead(_) => {
            return Err(Failure::new("the database was migrated by a newer tenantry"));
        }
    }
    let names: Vec<&str> = placement::TABLES.iter().map(|table| table.name).collect();
    let bare: Option<String> = sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) name
         WHERE 4 <> (SELECT count(*) FROM pg_policy p
                     WHERE p.polrelid = name::regclass AND p.polroles = ARRAY['tenantry_owner'::regrole::oid] AND p.polpermissive
                       AND coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') = 'true'
                       AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')
            OR NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = name::regclass AND t.tgname = 'note_change' AND t.tgenabled = 'O')
         LIMIT 1",
    )
    .bind(&names)
    .fetch_optional(connection)
    .await?;
    match bare {
        Some(table) => Err(Failure::new(format!(
            "{table} lacks a policy of tenantry_owner or its trigger note_change, which migrations made"
        ))),
        None => Ok(()),
    }
}
