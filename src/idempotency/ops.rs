//! Claims a key and stores the response under it. The row locks out concurrent requests with the
//! same key.

use std::time::Duration;

use entity::OrganizationId;
use sea_orm::ConnectionTrait;

use super::{
    IdempotencyKey,
    sealed_response::{seal, unseal},
    stored_response::Kept,
};
use crate::{
    error::{Error, Result},
    sql::sql,
    tenancy::{Session, Tenant, UnitOfWork},
};

/// A longer response is not stored. Only the fact that the request was completed is.
const MAX_BYTES: usize = 256 * 1024;

/// The result of claiming a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The key is new. The request must store its response.
    New,
    /// The request was completed earlier, with this response.
    Done(String),
}

/// Claims the key until the end of the transaction. `requested` is the organization that the
/// request names. `wait` is how long a mutation that has committed a part of its work may take for
/// the rest.
///
/// # Errors
///
/// [`Error::IdempotencyConflict`] if the key belongs to a different request or to one that is still
/// running, or if the caller may no longer see the stored response.
pub async fn claim(
    session: &Session,
    requested: Option<Tenant>,
    key: &IdempotencyKey,
    fingerprint: &[u8],
    wait: Duration,
) -> Result<Claim> {
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    let organization = requested.map(|tenant| tenant.organization_id);
    let claim = sql(
        "SELECT outcome, response FROM auth.claim_idempotency_key($1, $2, $3 * interval '1 second', $4)",
        [
            key.as_str().into(),
            fingerprint.into(),
            seconds.into(),
            organization.map(|id| id.0).into(),
        ],
    );
    let row = session.begun().query_one_raw(claim).await?;
    let row = row.ok_or_else(|| Error::internal("claiming an idempotency key returned no row"))?;
    let kept: Option<Vec<u8>> = row.try_get("", "response")?;
    match (row.try_get::<String>("", "outcome")?.as_str(), kept) {
        ("CLAIMED", _) => Ok(Claim::New),
        ("REPLAY", Some(kept)) => {
            let bound = bound(session, organization, key, fingerprint);
            match unseal(&session.settings().secret_keys, &bound, &kept) {
                // Boxed, because the future is large and rarely needed.
                Ok(text) => Box::pin(replay(session, requested, Kept::parse(&text)?)).await,
                Err(_) => conflict(
                    "the request was completed, but its response was stored under another SECRET_KEY",
                    None,
                ),
            }
        }
        ("OTHER", _) => {
            conflict("the key was used for a different request, so use a new key", None)
        }
        ("RUNNING", _) => conflict(
            "the first request with this key is still running, so try again in 1 s",
            Some(1),
        ),
        (outcome, _) => {
            Err(Error::internal(format!("claiming an idempotency key returned {outcome}")))
        }
    }
}

async fn replay(session: &Session, requested: Option<Tenant>, kept: Kept) -> Result<Claim> {
    if !kept.may_be_seen(session, requested).await? {
        return conflict("the request was completed under a role that you no longer have", None);
    }
    if kept.response.is_empty() {
        return conflict("the request was completed, but its response was too long to store", None);
    }
    Ok(Claim::Done(kept.response))
}

/// Stores the response. `requested` is the organization that the request names, with the caller's
/// role in it.
pub async fn keep(
    session: &Session,
    requested: Option<Tenant>,
    key: &IdempotencyKey,
    fingerprint: &[u8],
    response: &str,
) -> Result<()> {
    let organization = requested.map(|tenant| tenant.organization_id);
    let ended = session.tenant();
    let response = if response.len() > MAX_BYTES { "" } else { response };
    let kept = Kept::new(requested, ended, response).to_text()?;
    let bound = bound(session, organization, key, fingerprint);
    let sealed = seal(&session.settings().secret_keys, &bound, &kept)
        .map_err(|_| Error::internal("the response could not be encrypted"))?;
    let store = sql(
        "SELECT auth.store_response($1, $2, $3)",
        [organization.map(|id| id.0).into(), key.as_str().into(), sealed.into()],
    );
    session.begun().execute_raw(store).await?;
    Ok(())
}

fn conflict<T>(why: &'static str, retry_after: Option<u64>) -> Result<T> {
    Err(Error::IdempotencyConflict { why, retry_after })
}

/// The data that a stored response is bound to, so that it cannot be opened in another row.
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
