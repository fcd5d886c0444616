//! `tenantry user`
#![expect(clippy::disallowed_types, reason = "a person is in several organizations")]

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
    email: Option<String>,
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
    forget(connection, &person).await.map_err(Failure::new)?;
    Ok(seats)
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Person>, sqlx::Error> {
    let found: Option<(Uuid, Option<String>)> = sqlx::query_as(
        "SELECT id, email FROM auth.users WHERE id::text = lower($1) OR email = lower($1)",
    )
    .bind(name.trim())
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(id, email)| Person { id, email }))
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

/// The id stays in the audit log, so that what one person did can still be told from what others did.
async fn forget(connection: &mut PgConnection, person: &Person) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE audit.audit_logs SET actor_name = $2, ip_address = NULL WHERE actor_id = $1",
    )
    .bind(person.id)
    .bind(ERASED)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE audit.audit_logs SET metadata = metadata || jsonb_build_object('name', $2::text)
         WHERE metadata->>'user_id' = $1::text AND metadata ? 'name'",
    )
    .bind(person.id)
    .bind(ERASED)
    .execute(&mut *connection)
    .await?;
    if let Some(email) = &person.email {
        sqlx::query(
            "UPDATE audit.audit_logs SET metadata = metadata || jsonb_build_object('email', $2::text)
             WHERE metadata->>'email' = $1",
        )
        .bind(email)
        .bind(ERASED)
        .execute(&mut *connection)
        .await?;
        sqlx::query("DELETE FROM auth.invitations WHERE email = $1")
            .bind(email)
            .execute(&mut *connection)
            .await?;
    }
    // Identities and seats go with the person; projects and invitations forget who made them.
    sqlx::query("DELETE FROM auth.users WHERE id = $1").bind(person.id).execute(connection).await?;
    Ok(())
}
