//! Claiming a key, and keeping the answer with it.

use std::time::Duration;

use entity::OrganizationId;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::IdempotencyKey;
use crate::{
    error::{Error, Result},
    tenancy::Session,
};

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// This request, which is to keep its answer.
    New,
    /// A request like this one, with this answer.
    Done(String),
}

/// Takes the key until the end of the transaction. `patience` is how long a mutation that has committed a part may take for the rest.
///
/// # Errors
///
/// When the key stands for another request, or for one that still runs.
pub async fn claim(
    session: &Session,
    key: &IdempotencyKey,
    fingerprint: &[u8],
    patience: Duration,
) -> Result<Claim> {
    let row = session
        .query_one_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT outcome, kept FROM auth.claim_idempotency_key($1, $2, make_interval(secs => $3))",
            [key.as_str().into(), fingerprint.into(), patience.as_secs_f64().into()],
        ))
        .await?
        .ok_or_else(|| Error::internal("claiming a key answered nothing"))?;
    let kept: Option<String> = row.try_get("", "kept")?;
    match (row.try_get::<String>("", "outcome")?.as_str(), kept) {
        ("CLAIMED", _) => Ok(Claim::New),
        ("REPLAY", Some(response)) => Ok(Claim::Done(response)),
        ("OTHER", _) => Err(Error::IdempotencyConflict("this key was used with another request")),
        ("RUNNING", _) => Err(Error::IdempotencyConflict("the request with this key still runs")),
        (outcome, _) => Err(Error::internal(format!("claiming a key answered {outcome}"))),
    }
}

/// Keeps the answer. `organization` is where the request began.
///
/// # Errors
///
/// When the database fails.
pub async fn keep(
    session: &Session,
    organization: Option<OrganizationId>,
    key: &IdempotencyKey,
    response: String,
) -> Result<()> {
    session
        .execute_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT auth.keep_response($1, $2, $3)",
            [organization.map(|id| id.0).into(), key.as_str().into(), response.into()],
        ))
        .await?;
    Ok(())
}
