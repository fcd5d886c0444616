//! Opening a session: one message begins the transaction, resolves who calls and where, and applies the settings.
//!
//! What clients send travels hex-encoded, so that no character of theirs ever stands in SQL text.

use std::{fmt::Write as _, net::IpAddr};

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId};
use sea_orm::ActiveEnum;
use sqlx::{AssertSqlSafe, Executor, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Access, Environment, Notices, Placement, Session, Tenant, Transaction, Viewer,
    connection::Connections,
};
use crate::{
    auth::Caller,
    error::{Error, Result, Trouble},
};

/// Where a request wants to go, and from where it comes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The slug in the path.
    pub slug: Option<String>,
    /// The client's address, for the audit log.
    pub client_ip: Option<IpAddr>,
}

/// A session, and what the client should know about the way to it.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The current slug, when the request used a retired one.
    pub moved_to: Option<String>,
    /// When the organization's billing changed last: whatever was worked out from it before is out of date.
    pub billing_version: Option<DateTime<Utc>>,
}

/// How a session was opened, to open another transaction in the same way.
#[derive(Debug)]
pub(super) struct Opening {
    connections: Connections,
    sql: String,
    pub(super) notices: Notices,
}

impl Opening {
    /// Goes on with a finished transaction's name in a new one; answers where the person is now.
    pub(super) async fn again(&self, transaction: &Transaction) -> Result<Option<Tenant>> {
        let (fresh, row) = begin(&self.connections, &self.sql).await?;
        transaction.replace(fresh).await;
        tenant(&row)
    }
}

/// Opens a session for a caller; an identity that is seen for the first time is given its user before, and one whose address has
/// changed brings it up to date.
///
/// # Errors
///
/// When the caller may not be where the request wants to go, or the database cannot be reached.
pub async fn open(
    placement: &Placement,
    environment: &Environment,
    caller: &Caller,
    destination: &Destination,
    access: Access,
) -> Result<Opened> {
    let sql = opening_message(caller, destination.slug.as_deref(), access);
    let (mut transaction, mut row) = begin(placement.requests(), &sql).await?;
    if ["UNKNOWN_IDENTITY", "STALE_IDENTITY"].contains(&row.try_get("outcome")?) {
        transaction.roll_back().await;
        provision(placement, caller).await?;
        (transaction, row) = begin(placement.requests(), &sql).await?;
    }
    let tenant = tenant(&row)?;
    let slug: Option<String> = row.try_get("organization_slug")?;
    // An id in the claim does not name a slug.
    let by_claim = caller.organization.as_ref().filter(|claim| Uuid::try_parse(claim).is_err());
    let asked = destination.slug.as_ref().or(by_claim);
    let moved_to = slug.filter(|current| asked.is_some_and(|asked| asked != current));
    let viewer = Viewer {
        user_id: UserId(row.try_get::<Uuid, _>("user_id")?),
        verified_email: caller.email.clone(),
        client_ip: destination.client_ip,
    };
    let billing_version = row.try_get("billing_version")?;
    let notices = placement.notices().clone();
    let opening = Opening { connections: placement.requests().clone(), sql, notices };
    let session = Session::new(transaction, viewer, tenant, environment, opening);
    Ok(Opened { session, moved_to, billing_version })
}

fn opening_message(caller: &Caller, slug: Option<&str>, access: Access) -> String {
    let mut sql = String::with_capacity(256);
    sql.push_str(access.begin());
    sql.push_str("; SELECT * FROM auth.open_request(");
    push_text(&mut sql, Some(&caller.issuer));
    sql.push_str(", ");
    push_text(&mut sql, Some(&caller.subject));
    sql.push_str(", ");
    push_text(&mut sql, slug);
    sql.push_str(", ");
    push_text(&mut sql, caller.organization.as_deref());
    sql.push_str(", ");
    push_text(&mut sql, caller.email.as_deref());
    sql.push(')');
    sql
}

/// A text as a literal of its bytes in hexadecimal (PostgreSQL manual, section 4.1.2.2). `convert_from` would say the same, but
/// makes the opening several times as expensive. NUL, which no text in PostgreSQL can hold, becomes the replacement character,
/// which no slug contains; issuer and subject were checked by the verifier.
fn push_text(sql: &mut String, text: Option<&str>) {
    let Some(text) = text else {
        sql.push_str("NULL");
        return;
    };
    sql.push_str("E'");
    for byte in text.replace('\0', "\u{fffd}").bytes() {
        // Writing to a String cannot fail.
        let _ = write!(sql, "\\x{byte:02x}");
    }
    sql.push('\'');
}

/// Sends the opening message. A connection that died in the pool is no reason to fail: nothing has happened on it.
pub(super) async fn begin(connections: &Connections, sql: &str) -> Result<(Transaction, PgRow)> {
    let mut retried = false;
    loop {
        let transaction = Transaction::new(connections.lease().await?);
        let message = AssertSqlSafe(sql.to_owned());
        let row = transaction
            .run(|connection| Box::pin(connection.fetch_one(sqlx::raw_sql(message))))
            .await;
        match row {
            Ok(row) => return Ok((transaction, row)),
            Err(error) if Trouble::of(&error) == Trouble::Connection && !retried => {
                retried = true;
                connections.discard_idle();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// In a transaction of its own, so that a request that goes on to fail does not take the user back.
async fn provision(placement: &Placement, caller: &Caller) -> Result<()> {
    let transaction = Transaction::new(placement.requests().lease().await?);
    let query = sqlx::query("SELECT auth.provision_user($1, $2, $3, $4)")
        .bind(caller.issuer.clone())
        .bind(caller.subject.clone())
        .bind(caller.email.clone())
        .bind(caller.name.clone());
    transaction
        .run(|connection| {
            Box::pin(async move {
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                connection.execute(query).await
            })
        })
        .await?;
    transaction.commit().await
}

/// The organization that the opening message led to.
fn tenant(row: &PgRow) -> Result<Option<Tenant>> {
    match row.try_get::<&str, _>("outcome")? {
        "OK" => {}
        "MISMATCH" => return Err(Error::OrganizationMismatch),
        "NOT_FOUND" => return Err(Error::OrganizationNotFound),
        outcome => return Err(Error::internal(format!("opening a session answered {outcome}"))),
    }
    let organization: Option<Uuid> = row.try_get("organization_id")?;
    let role: Option<String> = row.try_get("role")?;
    Ok(match (organization, role) {
        (Some(organization), Some(role)) => Some(Tenant {
            organization_id: OrganizationId(organization),
            role: OrgRole::try_from_value(&role)?,
        }),
        _ => None,
    })
}
