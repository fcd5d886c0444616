//! `tenantry user`
#![expect(clippy::disallowed_types, reason = "a person is in several organizations")]

use chrono::{DateTime, Utc};
use clap::Subcommand;
use sqlx::{Connection, PgConnection, types::Json};
use uuid::Uuid;

use super::{Failure, owner::Owner, runtime, say};
use crate::audit::Action as AuditAction;

/// What stands where a name stood.
const ERASED: &str = "(erased)";

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
    let person = find(connection, name)
        .await
        .map_err(Failure::new)?
        .ok_or_else(|| Failure::new(format!("there is no person {name}")))?;
    // The long way through all entries, before anybody has to wait for us.
    let begun = forget_entries(connection, &person, None).await.map_err(Failure::new)?;
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
    forget_entries(connection, &person, Some((begun, &seats))).await.map_err(Failure::new)?;
    forget(connection, &person).await.map_err(Failure::new)?;
    Ok(seats)
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Person>, sqlx::Error> {
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
        "SELECT DISTINCT metadata->>'email' FROM audit.audit_logs
         WHERE actor_id = $1 AND action = 'invitation.accepted' AND metadata ? 'email'
         UNION SELECT email FROM auth.identities WHERE user_id = $1 AND email IS NOT NULL",
    )
    .bind(id)
    .fetch_all(connection)
    .await?;
    emails.extend(email);
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
    sqlx::query(
        "SELECT FROM billing.organization_billing WHERE organization_id IN
             (SELECT organization_id FROM auth.organization_members WHERE user_id = $1)
         ORDER BY organization_id FOR NO KEY UPDATE",
    )
    .bind(person)
    .execute(&mut *connection)
    .await?;
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
        sqlx::query(
            "INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, resource_id, metadata)
             VALUES ($1, 'tenantry user erase', $2, $3, $4, $5)",
        )
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
    since: Option<(DateTime<Utc>, &[Seat])>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    // A minute more than enough: entries carry the time of the act, not of its commit.
    let begun: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp() - interval '1 minute'")
        .fetch_one(&mut *connection)
        .await?;
    let seats = since.map(|(_, seats)| seats).unwrap_or_default();
    let organizations: Vec<Uuid> = seats.iter().map(|seat| seat.organization_id).collect();
    for statement in [
        "UPDATE audit.audit_logs SET actor_name = $3, ip_address = NULL
         WHERE actor_id = $1 AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $2::text[] IS NOT NULL",
        "UPDATE audit.audit_logs SET metadata = metadata || jsonb_build_object('name', $3::text)
         WHERE metadata->>'user_id' = $1::text AND metadata ? 'name' AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5)))
           AND $2::text[] IS NOT NULL",
        "UPDATE audit.audit_logs SET metadata = metadata || jsonb_build_object('email', $3::text)
         WHERE metadata->>'email' = ANY($2) AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $1::uuid IS NOT NULL",
    ] {
        sqlx::query(statement)
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

async fn forget(connection: &mut PgConnection, person: &Person) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM auth.invitations WHERE email = ANY($1)")
        .bind(&person.emails)
        .execute(&mut *connection)
        .await?;
    // Identities and seats go with the person; projects and invitations forget who made them.
    sqlx::query("DELETE FROM auth.users WHERE id = $1").bind(person.id).execute(connection).await?;
    Ok(())
}
