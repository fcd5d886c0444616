//! The caller's identities. Only the control database knows all of them.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    tenancy::{Access, Session},
};

/// An account at an identity provider.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) id: Uuid,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) email: Option<String>,
    pub(super) linked_at: DateTime<Utc>,
}

/// Lists the caller's identities, oldest first.
pub(super) async fn list(session: &Session) -> Result<Vec<Identity>> {
    let statement =
        Statement::from_string(DbBackend::Postgres, "SELECT * FROM auth.viewer_identities()");
    let rows = match session.ask_control(Access::Read, &statement).await? {
        Some(rows) => rows,
        None => session.query_all_raw(statement).await?,
    };
    rows.iter().map(identity).collect()
}

fn identity(row: &QueryResult) -> Result<Identity> {
    Ok(Identity {
        id: row.try_get("", "id")?,
        issuer: row.try_get("", "issuer")?,
        subject: row.try_get("", "subject")?,
        email: row.try_get("", "email")?,
        linked_at: row.try_get("", "linked_at")?,
    })
}

/// Unlinks an identity. The session is in the control database, which records the change in each of
/// the user's organizations.
///
/// # Errors
///
/// [`Error::NotFound`] if the user has no such identity. [`Error::Conflict`] if the caller is
/// signed in with it.
pub(super) async fn unlink(session: &Session, id: Option<Uuid>) -> Result<()> {
    const NOT_FOUND: Error = Error::NotFound("identity");
    let (issuer, subject) = session.identity();
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT auth.unlink_identity($1, $2, $3) AS outcome",
        [id.ok_or(NOT_FOUND)?.into(), issuer.into(), subject.into()],
    );
    let row = session.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("unlinking an identity returned no row"))?;
    match row.try_get::<String>("", "outcome")?.as_str() {
        "UNLINKED" => Ok(()),
        "NOT_FOUND" => Err(NOT_FOUND),
        "IN_USE" => Err(Error::Conflict(
            "You are signed in with this identity. Sign in with another one to unlink it."
                .to_owned(),
        )),
        outcome => Err(Error::internal(format!("unlinking an identity returned {outcome}"))),
    }
}
