//! Users of new identities are created, and changed addresses recorded, before a session opens.

use std::time::Duration;

use chrono::SubsecRound;
use pg::Parameters;
use sea_orm::{Value, Values};
use uuid::Uuid;

use super::{
    Access, Databases, OpenFor, Settings, Transaction,
    placement::Placement,
    placement_routing::{OpenedTransaction, begin},
    session_request::{ERASED, SessionRequest, get, issued_micros},
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// How long a query waits until its token is recorded.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// Begins a session's transaction after its token was recorded. Returns the request with which it
/// began, too.
pub(super) async fn begin_recorded(
    databases: &Databases,
    settings: &Settings,
    caller: &Caller,
    open_for: &OpenFor,
    mut session_request: SessionRequest,
    guess: Placement,
) -> Result<(OpenedTransaction, SessionRequest)> {
    let (access, search) = (open_for.access(), open_for.search());
    let begun = begin(databases, access, &session_request, guess.clone(), search).await?;
    let outcome: &str = get(&begun.row, "outcome")?;
    let is_stale = outcome == "STALE_IDENTITY";
    if !is_stale && outcome != "UNKNOWN_IDENTITY" {
        return Ok((begun, session_request));
    }
    // Boxed: large, and rarely needed.
    Box::pin(async {
        begun.transaction.roll_back().await;
        let recording = provision(databases, settings, caller);
        if is_stale && access == Access::Read {
            // Queries do not depend on a change: an unrecorded token changes nothing.
            match tokio::time::timeout(RECORD_WAIT, recording).await {
                Ok(Ok(())) => databases.user_changed(),
                Ok(Err(error @ (Error::Unauthenticated(_) | Error::Internal(_)))) => {
                    return Err(error);
                }
                Ok(Err(_)) | Err(_) => session_request = session_request.unrecorded(),
            }
        } else {
            recording.await?;
            databases.user_changed();
        }
        let begun = begin(databases, access, &session_request, guess, search).await?;
        Ok((begun, session_request))
    })
    .await
}

/// Creates or updates a user in a separate transaction, so that a failing request keeps it.
async fn provision(databases: &Databases, settings: &Settings, caller: &Caller) -> Result<()> {
    let Caller { issuer, subject, email, issued_at, .. } = caller;
    let profile = caller.profile();
    let issued_at = issued_at.map(|at| at.trunc_subsecs(6));
    let linking = settings.account_linking.name();
    let micros = issued_micros(issued_at);
    let callers = [Some(issuer.as_str()), Some(subject), email.as_deref(), profile.as_deref()];
    let [issuer, subject, email, profile] = callers;
    let proof = settings
        .secret_keys
        .proof()
        .prove("provision", &[issuer, subject, email, profile, micros.as_deref(), Some(linking)]);
    let mut values: Vec<Value> = callers.map(Into::into).into();
    values.extend([issued_at.into(), linking.into()]);
    values.extend(proof);
    let (transaction, rows) = Transaction::begin(
        &databases.requests,
        Access::Write,
        None,
        "SELECT auth.provision_user($1, $2, $3, $4, $5, $6, $7, $8) AS user_id",
        &Parameters::of(Some(Values(values)))?,
    )
    .await?;
    let user: Option<Uuid> = rows.first().map(|row| get(row, "user_id")).transpose()?.flatten();
    if user.is_none() {
        transaction.roll_back().await;
        return Err(ERASED);
    }
    Ok(transaction.commit().await?)
}
