//! Claiming a key, and keeping the answer with it.

use std::time::Duration;

use entity::OrganizationId;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{
    IdempotencyKey,
    sealed_response::{seal, unseal},
    stored_response::Kept,
};
use crate::{
    error::{Error, Result},
    tenancy::{Session, Tenant, UnitOfWork},
};

/// An answer that is longer is not kept, only that there was one.
const MOST_BYTES: usize = 256 * 1024;

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// This request, which is to keep its answer.
    New,
    /// A request like this one, with this answer.
    Done(String),
}

/// Takes the key until the end of the transaction. `patience` is how long a mutation that has
/// committed a part may take for the rest.
///
/// # Errors
///
/// When the key stands for another request, for one that still runs, or for an answer that the
/// caller may not see any more.
pub async fn claim(
    session: &Session,
    key: &IdempotencyKey,
    fingerprint: &[u8],
    patience: Duration,
) -> Result<Claim> {
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let row = session
        .query_one_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT outcome, kept FROM auth.claim_idempotency_key($1, $2, $3 * interval '1 second')",
            [key.as_str().into(), fingerprint.into(), seconds.into()],
        ))
        .await?
        .ok_or_else(|| Error::internal("claiming a key answered nothing"))?;
    let kept: Option<Vec<u8>> = row.try_get("", "kept")?;
    match (row.try_get::<String>("", "outcome")?.as_str(), kept) {
        ("CLAIMED", _) => Ok(Claim::New),
        ("REPLAY", Some(kept)) => {
            let organization = session.tenant().map(|tenant| tenant.organization_id);
            let bound = bound(session, organization, key, fingerprint);
            match unseal(&session.business().secret_keys, &bound, &kept) {
                // Large, and rare.
                Ok(text) => Box::pin(replay(session, Kept::parse(&text)?)).await,
                Err(_) => {
                    conflict("it was done, and its answer was kept under another SECRET_KEY", None)
                }
            }
        }
        ("OTHER", _) => conflict("it was used with another request", None),
        ("RUNNING", _) => conflict("the request with this key still runs", Some(1)),
        (outcome, _) => Err(Error::internal(format!("claiming a key answered {outcome}"))),
    }
}

async fn replay(session: &Session, kept: Kept) -> Result<Claim> {
    if !kept.may_be_seen(session).await? {
        return conflict("it was done, under a role that you no longer have", None);
    }
    if kept.answer.is_empty() {
        return conflict("it was done, and its answer was too long to be kept", None);
    }
    Ok(Claim::Done(kept.answer))
}

/// Keeps the answer. `begun` is where the request began, and as what.
///
/// # Errors
///
/// When the database fails.
pub async fn keep(
    session: &Session,
    begun: Option<Tenant>,
    key: &IdempotencyKey,
    fingerprint: &[u8],
    response: &str,
) -> Result<()> {
    let organization = begun.map(|tenant| tenant.organization_id);
    let ended = session.tenant();
    let response = if response.len() > MOST_BYTES { "" } else { response };
    let kept = Kept::new(begun, ended, response).to_text()?;
    let bound = bound(session, organization, key, fingerprint);
    let sealed = seal(&session.business().secret_keys, &bound, &kept)
        .map_err(|_| Error::internal("the answer could not be sealed"))?;
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT auth.keep_response($1, $2, $3)",
        [organization.map(|id| id.0).into(), key.as_str().into(), sealed.into()],
    );
    session.execute_where_begun(statement).await
}

fn conflict<T>(why: &'static str, retry_after: Option<u64>) -> Result<T> {
    Err(Error::IdempotencyConflict { why, retry_after })
}

/// What a kept answer is sealed for, so that in another row it is none.
fn bound(
    session: &Session,
    organization: Option<OrganizationId>,
    key: &IdempotencyKey,
    fingerprint: &[u8],
) -> Vec<u8> {
    let user = session.viewer().user_id.0;
    let organization = organization.map(|id| id.0).unwrap_or_default();
    [fingerprint, user.as_bytes(), organization.as_bytes(), key.as_str().as_bytes()].concat()
}
