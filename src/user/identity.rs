//! The caller's identities. Only the control database knows all of them.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    sql::{sql, value_of},
    tenancy::Session,
};

/// An account at an identity provider.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Identity {
    pub(super) id: Uuid,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) email: Option<String>,
    pub(super) linked_at: DateTime<Utc>,
}

/// Lists the caller's identities, oldest first.
pub(super) async fn list(session: &Session) -> Result<Vec<Identity>> {
    let rows = session.read_control(sql("SELECT * FROM auth.viewer_identities()", [])).await?;
    rows.iter().map(|row| Ok(Identity::from_query_result(row, "")?)).collect()
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
    let unlink = sql(
        "SELECT auth.unlink_identity($1, $2, $3) AS outcome",
        [id.ok_or(NOT_FOUND)?.into(), issuer.into(), subject.into()],
    );
    match value_of::<String>(session, "outcome", unlink).await?.as_str() {
        "UNLINKED" => Ok(()),
        "NOT_FOUND" => Err(NOT_FOUND),
        "IN_USE" => Err(Error::Conflict(
            "You are signed in with this identity. Sign in with another one to unlink it."
                .to_owned(),
        )),
        outcome => Err(Error::internal(format!("unlinking an identity returned {outcome}"))),
    }
}
