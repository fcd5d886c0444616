//! `tenantry user`
#![expect(clippy::disallowed_types, reason = "a person is in several organizations")]

use chrono::{DateTime, Utc};
use clap::Subcommand;
use migration::placement::schema_of;
use sqlx::{AssertSqlSafe, Connection, PgConnection, types::Json};
use uuid::Uuid;

use super::{
    Failure,
    owner::Owner,
    runtime, say,
    tenant::{MAINTENANCE_LOCK, audit_logs, schemas},
};
use crate::audit::Action as AuditAction;

/// What stands where a name stood.
const ERASED: &str = "(erased)";

/// What stands after `UPDATE` and the name of a log: $1 the person, $2 their addresses, $3 what stands there then, $4 and $5 since when
/// and where.
const FORGET_ENTRIES: [&str; 3] = [
    "SET actor_name = $3, ip_address = NULL
     WHERE actor_id = $1 AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $2::text[] IS NOT NULL",
    "SET metadata = metadata || jsonb_build_object('name', $3::text)
     WHERE metadata->>'user_id' = $1::text AND metadata ? 'name' AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5)))
       AND $2::text[] IS NOT NULL",
    "SET metadata = metadata || jsonb_build_object('email', $3::text)
     WHERE metadata->>'email' = ANY($2) AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $1::uuid IS NOT NULL",
];

/// Look after people.
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Forget a person for good: identities, name and address, also in audit logs; memberships end. Refused to the last owner
    /// of an organization.
    Erase {
        /// The person's e-mail address or id.
        person: String,
    },
}

#[derive(Debug)]
struct Person {
    id: Uuid,
    /// The address, and those of before that are known.
    emails: Vec<String>,
}

#[derive(Debug)]
struct Seat {
    id: Uuid,
    organization_id: Uuid,
    in_schema: bool,
    slug: String,
    role: String,
    last_owner: bool,
}

impl User {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Erase { person } = self.action;
        runtime()?.block_on(async {
            let mut connection = self.owner.connect().await?;
            let mut transaction = connection.begin().await.map_err(Failure::new)?;
            let seats = erase(&mut transaction, &person).await?;
            transaction.commit().await.map_err(Failure::new)?;
            say(format!("erased {person}; memberships ended: {}", seats.len()));
            for seat in seats {
                say(format!("  {} ({})", seat.slug, seat.role));
            }
            Ok(())
        })
    }
}

/// Everything in one transaction: a person is forgotten altogether or not at all.
async fn erase(connection: &mut PgConnection, name: &str) -> Result<Vec<Seat>, Failure> {
    let schemas = enter_all(connection).await?;
    let person = find(connection, name, &schemas)
        .await
        .map_err(Failure::new)?
        .ok_or_else(|| Failure::new(format!("there is no person {name}")))?;
    // The long way through all entries, before anybody has to wait for us.
    let begun = forget_entries(connection, &person, &schemas, None).await.map_err(Failure::new)?;
    lock(connection, &person).await.map_err(Failure::new)?;
    let seats = lock_seats(connection, person.id).await.map_err(Failure::new)?;
    let alone: Vec<_> =
        seats.iter().filter(|seat| seat.last_owner).map(|seat| seat.slug.as_str()).collect();
    if !alone.is_empty() {
        return Err(Failure::new(format!(
            "{name} is the last owner of {}: transfer or delete first",
            alone.join(", ")
        )));
    }
    record(connection, &seats, person.id).await.map_err(Failure::new)?;
    let since = Some((begun, seats.as_slice()));
    forget_entries(connection, &person, &schemas, since).await.map_err(Failure::new)?;
    forget(connection, &person, &schemas).await.map_err(Failure::new)?;
    Ok(seats)
}

/// From here on no organization changes its home; what is on its way notes what we change. Answers which have a schema.
async fn enter_all(connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    let lock = format!("SELECT pg_advisory_xact_lock_shared({MAINTENANCE_LOCK})");
    sqlx::query(AssertSqlSafe(lock)).execute(&mut *connection).await?;
    sqlx::query(
        "SELECT set_config('app.moving', 'on', true) WHERE EXISTS (SELECT FROM app.placements WHERE moving_to IS NOT NULL)",
    )
    .execute(&mut *connection)
    .await?;
    schemas(connection).await
}

/// The shared audit log, and that of each schema.
fn logs(schemas: &[Uuid]) -> impl Iterator<Item = String> {
    let own = schemas.iter().map(|organization| audit_logs(true, *organization));
    std::iter::once(audit_logs(false, Uuid::nil())).chain(own)
}

async fn find(
    connection: &mut PgConnection,
    name: &str,
    schemas: &[Uuid],
) -> Result<Option<Person>, sqlx::Error> {
    let found: Option<(Uuid, Option<String>)> = sqlx::query_as(
        "SELECT id, email FROM auth.users WHERE id::text = lower($1) OR email = lower($1)",
    )
    .bind(name.trim())
    .fetch_optional(&mut *connection)
    .await?;
    let Some((id, email)) = found else {
        return Ok(None);
    };
    // Addresses of before: what was accepted was accepted by somebody who had the address.
    let mut emails: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT email FROM auth.identities WHERE user_id = $1 AND email IS NOT NULL",
    )
    .bind(id)
    .fetch_all(&mut *connection)
    .await?;
    emails.extend(email);
    for log in logs(schemas) {
        let sql = format!(
            "SELECT DISTINCT metadata->>'email' FROM {log}
             WHERE actor_id = $1 AND action = 'invitation.accepted' AND metadata ? 'email'"
        );
        let accepted: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(id).fetch_all(&mut *connection).await?;
        emails.extend(accepted);
    }
    Ok(Some(Person { id, emails }))
}

/// From here on the person can neither join nor found an organization: memberships refer to the row.
async fn lock(connection: &mut PgConnection, person: &Person) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM auth.users WHERE id = $1 FOR UPDATE")
        .bind(person.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// The person's seats, under the lock of each organization, in an order in which two such commands cannot block each other.
async fn lock_seats(connection: &mut PgConnection, person: Uuid) -> Result<Vec<Seat>, sqlx::Error> {
    let homes: Vec<(Uuid, bool)> = sqlx::query_as(
        "SELECT organization_id, p.home IS NOT DISTINCT FROM 'schema'
         FROM auth.organization_members m LEFT JOIN app.placements p USING (organization_id)
         WHERE m.user_id = $1 ORDER BY organization_id",
    )
    .bind(person)
    .fetch_all(&mut *connection)
    .await?;
    for (organization, in_schema) in &homes {
        let billing = if *in_schema {
            format!("{}.organization_billing", schema_of(*organization))
        } else {
            "billing.organization_billing".to_owned()
        };
        let sql = format!("SELECT FROM {billing} WHERE organization_id = $1 FOR NO KEY UPDATE");
        sqlx::query(AssertSqlSafe(sql)).bind(organization).execute(&mut *connection).await?;
    }
    let seats: Vec<(Uuid, Uuid, String, String, bool)> = sqlx::query_as(
        "SELECT m.id, m.organization_id, o.slug, m.role::text AS role,
                m.role = 'owner' AND NOT EXISTS (
                    SELECT FROM auth.organization_members other
                    WHERE other.organization_id = m.organization_id AND other.role = 'owner' AND other.user_id <> $1)
                AS last_owner
         FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
         WHERE m.user_id = $1 ORDER BY o.slug",
    )
    .bind(person)
    .fetch_all(connection)
    .await?;
    let seat = |(id, organization_id, slug, role, last_owner)| Seat {
        id,
        organization_id,
        in_schema: homes.contains(&(organization_id, true)),
        slug,
        role,
        last_owner,
    };
    Ok(seats.into_iter().map(seat).collect())
}

async fn record(
    connection: &mut PgConnection,
    seats: &[Seat],
    person: Uuid,
) -> Result<(), sqlx::Error> {
    let action = AuditAction::MemberRemoved;
    for seat in seats {
        let metadata = serde_json::json!({ "name": ERASED, "role": seat.role, "user_id": person });
        let sql = format!(
            "INSERT INTO {} (organization_id, actor_name, action, resource_type, resource_id, metadata)
             VALUES ($1, 'tenantry user erase', $2, $3, $4, $5)",
            audit_logs(seat.in_schema, seat.organization_id)
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(seat.organization_id)
            .bind(action.name())
            .bind(action.resource_type())
            .bind(seat.id)
            .bind(Json(metadata))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Names and addresses go from the audit log; the id stays, so that what one person did can still be told from what others did.
/// With a time and seats, only entries since then where they are. Answers when it began.
async fn forget_entries(
    connection: &mut PgConnection,
    person: &Person,
    schemas: &[Uuid],
    since: Option<(DateTime<Utc>, &[Seat])>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    // A minute more than enough: entries carry the time of the act, not of its commit.
    let begun: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp() - interval '1 minute'")
        .fetch_one(&mut *connection)
        .await?;
    let seats = since.map(|(_, seats)| seats).unwrap_or_default();
    let organizations: Vec<Uuid> = seats.iter().map(|seat| seat.organization_id).collect();
    for (log, statement) in
        logs(schemas).flat_map(|log| FORGET_ENTRIES.map(|forget| (log.clone(), forget)))
    {
        let sql = format!("UPDATE {log} {statement}");
        sqlx::query(AssertSqlSafe(sql))
            .bind(person.id)
            .bind(&person.emails)
            .bind(ERASED)
            .bind(since.map(|(time, _)| time))
            .bind(&organizations)
            .execute(&mut *connection)
            .await?;
    }
    Ok(begun)
}

async fn forget(
    connection: &mut PgConnection,
    person: &Person,
    schemas: &[Uuid],
) -> Result<(), sqlx::Error> {
    let own =
        schemas.iter().map(|organization| format!("{}.invitations", schema_of(*organization)));
    for invitations in std::iter::once("auth.invitations".to_owned()).chain(own) {
        let sql = format!("DELETE FROM {invitations} WHERE email = ANY($1)");
        sqlx::query(AssertSqlSafe(sql)).bind(&person.emails).execute(&mut *connection).await?;
    }
    // Identities and seats go with the person; projects and invitations forget who made them.
    sqlx::query("DELETE FROM auth.users WHERE id = $1").bind(person.id).execute(connection).await?;
    Ok(())
}
