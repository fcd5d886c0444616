//! The session request: the parameters of the statement that opens a session, with their proof.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, SubsecRound, Utc};
use pg::{ConnectionPool, Parameters, Row, SearchPath};
use sea_orm::{Value, Values};

use super::{Access, SecretKeys, Transaction, open::get, placement::Placement, proof::ProofKey};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// Selects columns by name, so that servers of two versions can share a database.
pub(super) const OPEN: &str =
    "SELECT outcome, user_id, organization_id, organization_slug, role, billing_version,
        organization_name, organization_created_at, organization_updated_at, placement, placement_version, placement_generation,
        email_is_current, suspension
    FROM auth.open_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// The parameters of an opening.
#[derive(Clone, Debug)]
pub(super) struct SessionRequest {
    issuer: String,
    subject: String,
    path: Option<String>,
    claim: Option<String>,
    email: Option<String>,
    issued_at: Option<DateTime<Utc>>,
    /// Whether the database must have recorded the token.
    record: bool,
    key: ProofKey,
}

/// Omits the token's time, so that a user's next token finds the context cached for the last one.
/// The database checks that context again.
impl Hash for SessionRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { issuer, subject, path, claim, email, issued_at: _, record: _, key: _ } = self;
        (issuer, subject, path, claim, email).hash(state);
    }
}

impl SessionRequest {
    /// Replaces NUL, which PostgreSQL cannot store in text, by U+FFFD, which no slug contains. The
    /// verifier has checked issuer and subject.
    pub(super) fn new(caller: &Caller, slug: Option<&str>, secret: &SecretKeys) -> Self {
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            issuer: text(&caller.issuer),
            subject: text(&caller.subject),
            path: slug.map(text),
            claim: caller.organization.as_deref().map(text),
            email: caller.email.as_deref().map(text),
            issued_at: caller.issued_at.map(|at| at.trunc_subsecs(6)),
            record: true,
            key: ProofKey::of(secret),
        }
    }

    /// The same user outside any organization, after a session was opened.
    pub(super) fn outside(&self) -> Self {
        Self { path: None, claim: None, ..self.unrecorded() }
    }

    /// The same request for a token that cannot be recorded now, or need not be: it changes
    /// nothing, and its address counts only if it is the known one.
    pub(super) fn unrecorded(&self) -> Self {
        Self { record: false, ..self.clone() }
    }

    /// Issuer and subject.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.issuer, &self.subject)
    }

    /// The slug or claim that names the organization.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.as_deref().or(self.claim.as_deref())
    }

    /// The parameters of [`OPEN`]. `placement` is the placement's name in the queried database.
    pub(super) fn parameters(&self, placement: &str) -> Result<Parameters> {
        let (issuer, subject) = (self.issuer.as_str(), self.subject.as_str());
        let [path, claim, email] =
            [&self.path, &self.claim, &self.email].map(|text| text.as_deref());
        let callers = [Some(issuer), Some(subject), path, claim, email];
        let micros = issued_micros(self.issued_at);
        let [issuer, subject, path, claim, email] = callers;
        let proven = [issuer, subject, path, claim, email, micros.as_deref()];
        let [proven_at, proof] = self.key.prove("open", &proven);
        let mut values: Vec<Value> = callers.into_iter().map(Into::into).collect();
        values.extend([placement.into(), self.issued_at.into(), proven_at, proof]);
        values.push(self.record.into());
        Ok(Parameters::of(Some(Values(values)))?)
    }

    /// Begins a transaction at the cached placement, without waiting for the answer.
    pub(super) async fn open_speculatively(
        &self,
        connections: &ConnectionPool,
        placement: &Placement,
    ) -> Result<Transaction> {
        // Inside a dedicated database its organizations are in the shared tables.
        let name = if matches!(placement, Placement::Database(_)) {
            Placement::Shared.name()
        } else {
            placement.name()
        };
        let parameters = self.parameters(&name)?;
        let search_path = placement.search_path();
        let begun =
            Transaction::begin_pipelined(connections, Access::Read, search_path, OPEN, parameters);
        Ok(begun.await?)
    }

    /// Opens a session in a database, if the organization's placement there is `placement`.
    /// `system` is a pool of the same database, for registering this server's key if the database
    /// lacks it.
    pub(super) async fn open(
        &self,
        connections: &ConnectionPool,
        system: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let opened = self.open_once(connections, access, search_path, placement).await?;
        if get::<&str>(&opened.1, "outcome")? != "UNPROVEN" {
            return Self::check_clocks(opened);
        }
        // Boxed: large, and rarely needed.
        Box::pin(async {
            opened.0.roll_back().await;
            self.key.register(system).await?;
            let opened = self.open_once(connections, access, search_path, placement).await?;
            Self::check_clocks(opened)
        })
        .await
    }

    async fn open_once(
        &self,
        connections: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let parameters = self.parameters(placement)?;
        let (transaction, mut rows) =
            Transaction::begin(connections, access, search_path, OPEN, &parameters).await?;
        let row = rows.pop().ok_or_else(|| Error::internal("auth.open_request returned no row"))?;
        Ok((transaction, row))
    }

    /// Fails if the database considers the proof too old or from the future.
    fn check_clocks(opened: (Transaction, Row)) -> Result<(Transaction, Row)> {
        if get::<&str>(&opened.1, "outcome")? != "CLOCKS_DIFFER" {
            return Ok(opened);
        }
        tracing::error!(
            "the clocks of this server and of the database differ by more than five minutes: \
             no session can be opened. Synchronize both with NTP."
        );
        Err(Error::unavailable("the clocks of the server and of the database differ"))
    }
}

/// The token's time of issue, as the proof contains it.
pub(super) fn issued_micros(issued_at: Option<DateTime<Utc>>) -> Option<String> {
    issued_at.map(|at| at.timestamp_micros().to_string())
}
